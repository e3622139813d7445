/* Goal: functions and variables that another plugin, the host and a library of the host have too,
 * exported on purpose: each plugin must reach its own. ANSWER tells the copies apart. */
#include "weft.h"

#define EXPORTED __attribute__((visibility("default")))

EXPORTED int weft_test_count = ANSWER; /* as in the other plugin */

EXPORTED int weft_test_answer(void)
{
    return weft_test_count;
}

EXPORTED int llhttp_execute(void) /* as in the host */
{
    return ANSWER;
}

EXPORTED int PQlibVersion(void) /* as in a library that the host has loaded */
{
    return ANSWER;
}

static weft_status names(weft_ctx *ctx, void *self)
{
    (void)self;
    return weft_reply_text(
        ctx, 200,
        weft_fmt(ctx, "%d %d %d", weft_test_answer(), llhttp_execute(), PQlibVersion()).ptr);
}

static weft_status init(weft_host *host, void **self)
{
    (void)self;
    return weft_route(host, "GET", "/names", names);
}

WEFT_PLUGIN("names", "1", init, NULL, NULL);
