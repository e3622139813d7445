/* base/check.c - the end of a process that is wrong. */
#include "base/check.h"
#include "base/log.h"
#include <stdlib.h>

void check_failed(const char *file, int line, const char *function, const char *cond)
{
    log_error("check failed: %s:%d: %s(): %s", file, line, function, cond);
    abort();
}
