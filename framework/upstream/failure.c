/* upstream/failure.c - the ways in which a call fails. */
#include "upstream/failure.h"
#include "base/check.h"

#define FAILURE_ERR(name, error, reason)    error,
#define FAILURE_REASON(name, error, reason) reason,

static const enum err errors[] = {UPSTREAM_FAILURE_TABLE(FAILURE_ERR)};
static const char *const reasons[] = {UPSTREAM_FAILURE_TABLE(FAILURE_REASON)};

enum err upstream_failure_err(enum upstream_failure failure)
{
    CHECK(failure < UPSTREAM_FAILURE_COUNT);
    return errors[failure];
}

const char *upstream_failure_reason(enum upstream_failure failure)
{
    CHECK(failure < UPSTREAM_FAILURE_COUNT);
    return reasons[failure];
}
