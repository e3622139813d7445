/* lib/soak.c - the short and the long form of a random test, and its seed. */
#include "lib/soak.h"
#include "base/asan.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#if WEFT_ASAN
#include <sanitizer/common_interface_defs.h>
#endif

static char repeat[256]; /* what is told; "": nothing */

static void tell(void)
{
    static const char before[] = "to repeat it: ";

    if (repeat[0] == '\0')
        return;
    if (write(STDERR_FILENO, before, sizeof before - 1) > 0 &&
        write(STDERR_FILENO, repeat, strlen(repeat)) > 0)
        (void)!write(STDERR_FILENO, "\n", 1);
    repeat[0] = '\0';
}

static void on_abort(int number)
{
    tell();
    signal(number, SIG_DFL);
    raise(number);
}

void soak_repeat(const char *how)
{
    static bool is_installed;

    if (!is_installed) {
        is_installed = true;
        signal(SIGABRT, on_abort);
#if WEFT_ASAN
        __sanitizer_set_death_callback(tell);
#endif
    }
    snprintf(repeat, sizeof repeat, "%s", how != NULL ? how : "");
}

int soak_end(void **state)
{
    (void)state;
    tell();
    return 0;
}
