/* loop COUNT PROGRAM: keeps COUNT instances of PROGRAM alive and does nothing else.
 *
 * vfork, exec, wait: what the kernel itself costs, and so the floor for any supervisor. SIGTERM ends them all.
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;
static sigset_t ours;

static pid_t start(char *program)
{
    char *argv[] = {program, NULL};
    pid_t pid = vfork();

    if (pid == 0) {
        setsid();
        sigprocmask(SIG_UNBLOCK, &ours, NULL);
        execve(program, argv, environ);
        _exit(127);
    }
    return pid;
}

int main(int argc, char **argv)
{
    int count = argc == 3 ? atoi(argv[1]) : 0, number, status;
    pid_t *pids = calloc(count > 0 ? count : 1, sizeof *pids), dead;

    if (count <= 0 || pids == NULL)
        return 2;
    sigemptyset(&ours);
    sigaddset(&ours, SIGCHLD);
    sigaddset(&ours, SIGTERM);
    sigprocmask(SIG_BLOCK, &ours, NULL);
    for (number = 0; number < count; number++)
        pids[number] = start(argv[2]);
    while (sigwaitinfo(&ours, NULL) != SIGTERM)
        while ((dead = waitpid(-1, &status, WNOHANG)) > 0)
            for (number = 0; number < count; number++)
                if (pids[number] == dead) {
                    pids[number] = start(argv[2]);
                    break;
                }
    for (number = 0; number < count; number++)
        kill(pids[number], SIGTERM);
    while (wait(&status) > 0)
        ;
    return 0;
}
