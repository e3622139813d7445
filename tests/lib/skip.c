/* lib/skip.c - a test that cannot run here says so, and counts as failed where it had to. */
#include "lib/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void test_skip(const char *reason)
{
    const char *all = getenv("WEFT_TEST_ALL");

    printf("skipped: %s\n", reason);
    (void)fflush(stdout);
    if (all != NULL && strcmp(all, "1") == 0)
        fail_msg("skipped although WEFT_TEST_ALL=1: %s", reason);
    skip();
}
