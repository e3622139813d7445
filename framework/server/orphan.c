/* server/orphan.c - a worker whose master has died. */
#include "server/orphan.h"
#include "base/check.h"
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

enum { NOTICE_S = 2 }; /* for the loop to hear of it */

/* Real-time signals are nobody's by habit. */
static int death_signal(void)
{
    return SIGRTMAX - 4; /* hang.c has the one above */
}

/* The channel's end may be heard of first. A handler is given nothing, so this must be global. */
static volatile sig_atomic_t is_heard;

static void on_death(int number)
{
    (void)number;
    if (!is_heard)
        (void)alarm(NOTICE_S);
}

void orphan_watch(pid_t master)
{
    struct sigaction action = {.sa_handler = on_death, .sa_flags = SA_RESTART | SA_ONSTACK};

    CHECK(sigemptyset(&action.sa_mask) == 0);
    CHECK(sigaction(death_signal(), &action, NULL) == 0);
    CHECK(prctl(PR_SET_PDEATHSIG, death_signal()) == 0);
    if (getppid() != master) /* it died before we asked */
        _exit(0);
}

void orphan_heard(uint64_t ms)
{
    is_heard = 1;
    (void)alarm((unsigned)(ms / 1000) + NOTICE_S);
}
