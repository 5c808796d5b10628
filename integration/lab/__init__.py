"""The lab: kernels, initramfs, root trees and virtual machines for the tests and the demonstration."""
