/* orphans: $BENCH_COUNT children of dead parents, which die one after another, under a PID 1 that is to reap them.
 *
 * Needs a PID namespace with its own /proc. When the last has died, "LEFT NANOSECONDS" goes to $BENCH_STAMPS: how many
 * processes more than before there still are, and how long that took, at most 20 seconds; looked at every millisecond. Then it
 * sleeps.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long long now(void)
{
    struct timespec at;

    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec * 1000000000LL + at.tv_nsec;
}

static int processes(void)
{
    DIR *folder = opendir("/proc");
    struct dirent *entry;
    int found = 0;

    while (folder != NULL && (entry = readdir(folder)) != NULL)
        found += entry->d_name[0] >= '1' && entry->d_name[0] <= '9';
    if (folder != NULL)
        closedir(folder);
    return found;
}

int main(void)
{
    const char *path = getenv("BENCH_STAMPS"), *count = getenv("BENCH_COUNT");
    struct timespec moment = {0, 1000000};
    int left, before, number, length, fd, status;
    long long began;
    char line[64];

    if (path == NULL || count == NULL)
        return 2;
    sleep(1); /* PID 1 is done with its own start */
    before = processes();
    for (number = atoi(count); number > 0; number--) {
        pid_t parent = fork();

        if (parent < 0)
            return 3;
        if (parent == 0) {
            fork();
            _exit(0);
        }
        waitpid(parent, &status, 0);
    }
    began = now();
    do
        nanosleep(&moment, NULL);
    while ((left = processes() - before) > 0 && now() - began < 20000000000LL);
    fd = open(path, O_WRONLY | O_APPEND);
    length = snprintf(line, sizeof line, "%d %lld\n", left > 0 ? left : 0, now() - began);
    if (fd < 0 || write(fd, line, length) != length)
        return 4;
    for (;;)
        pause();
}
