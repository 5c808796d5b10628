/* The service under test, as small as a process can be, so that the supervisors' cost shows and not its own.
 *
 * Its first instruction writes "PID NANOSECONDS" (CLOCK_MONOTONIC) to $BENCH_STAMPS, a fifo or a file. Then it sleeps until
 * a signal ends it; with $BENCH_ENDS set it ends at once, with status 1.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

int main(void)
{
    struct timespec now;
    char line[64];
    const char *path = getenv("BENCH_STAMPS");
    int fd, length;

    clock_gettime(CLOCK_MONOTONIC, &now);
    if (path == NULL || (fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC)) < 0)
        return 2;
    length = snprintf(line, sizeof line, "%d %lld\n", (int)getpid(), now.tv_sec * 1000000000LL + now.tv_nsec);
    if (write(fd, line, length) != length)
        return 3;
    close(fd);
    if (getenv("BENCH_READY") != NULL && write(atoi(getenv("BENCH_READY")), "\n", 1) != 1)
        return 4;
    if (getenv("BENCH_ENDS") != NULL)
        return 1;
    for (;;)
        pause();
}
