/* Goal: a plugin that is refused; which refusal it is for is chosen where it is compiled. What runs
 * before the refusal would be seen: a constructor leaves a mark in the environment. */
#include "weft.h"

#include <stdlib.h>

__attribute__((constructor)) static void leave_mark(void)
{
    setenv("WEFT_TEST_PLUGIN_RAN", "1", 1);
}

#if defined(OTHER_MAJOR)
#undef WEFT_ABI_MAJOR
#define WEFT_ABI_MAJOR 2
#endif

/* The header refuses to be used for more than it has: a newer one's number takes the place of its
 * own. */
#if defined(ABI_NEEDED)
#undef WEFT_ABI_TARGET
#define WEFT_ABI_TARGET ABI_NEEDED
#endif

#if defined(MISSING_SYMBOL)
weft_status weft_test_that_nobody_has(void);
#endif

static weft_status hello(weft_ctx *ctx, void *self)
{
    (void)self;
    return weft_reply_text(ctx, 200, "hello\n");
}

static weft_status init(weft_host *host, void **self)
{
    (void)self;
    WEFT_TRY(weft_route(host, "GET", "/refused", hello));
#if defined(MISSING_SYMBOL)
    return weft_test_that_nobody_has();
#elif defined(INIT_FAILS)
    weft_log(NULL, WEFT_LOG_INFO, "init fails, as it should");
    return WEFT_E_UNSUPPORTED;
#else
    return WEFT_OK;
#endif
}

#if defined(NO_NOTE)
const weft_api *weft__api;
const weft_plugin weft_plugin_1 = {WEFT_MAGIC, sizeof(weft_plugin), WEFT_ABI_MAJOR, 0,    0,   "x",
                                   "1",        &weft__api,          init,           NULL, NULL};
#elif defined(NO_DESCRIPTOR)
/* The macro's note, and a symbol that nobody looks for. */
extern const weft_plugin weft_test_plugin;
#define weft_plugin_1 weft_test_plugin
WEFT_PLUGIN("x", "1", init, NULL, NULL);
#elif defined(SHORT_DESCRIPTOR)
/* The macro's note, and a descriptor that ends before init. */
const weft_api *weft__api;
const weft_plugin weft_plugin_1 = {WEFT_MAGIC, 32,   WEFT_ABI_MAJOR, 0,    0,   "x",
                                   "1",        NULL, NULL,           NULL, NULL};
extern const weft_plugin weft_test_plugin;
#define weft_plugin_1 weft_test_plugin
#define weft__api     weft_test_api
WEFT_PLUGIN("x", "1", init, NULL, NULL);
#else
WEFT_PLUGIN("refused", "1", init, NULL, NULL);
#endif
