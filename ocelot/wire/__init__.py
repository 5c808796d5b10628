"""What goes over the control socket: requests, replies, and the client."""
