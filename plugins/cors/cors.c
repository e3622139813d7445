/* cors - lets pages of other origins use what is served (the Fetch standard's CORS protocol).
 *
 *     [plugin.cors]
 *     path = cors.so
 *     mount = /api                        what it is for; everything where it is left out
 *     origins = https://shop.example https://admin.example     or *
 *
 * A preflight is answered here, whatever is served at its path. An answer to an origin that is
 * allowed says so, unless its handler has said something itself.
 */
#include "weft.h"
#include "weft_web.h"

static weft_str origins, methods, headers, exposed;
static uint32_t is_any, has_credentials;
static int64_t max_age_s, order;

/* Is `what` one of the words of `list`? */
static int is_listed(weft_str list, weft_str what)
{
    weft_str word;

    while (weft_web__part(&list, ' ', &word)) {
        if (word.len > 0 && weft_equal(word, what))
            return 1;
    }
    return 0;
}

/* The request's origin, if it may; absent. */
static weft_str allowed_origin(weft_ctx *ctx)
{
    weft_str origin = weft_header(ctx, "Origin");

    if (origin.ptr != NULL && !is_any && !is_listed(origins, origin))
        origin.ptr = NULL;
    return origin;
}

static weft_status allow_origin(weft_ctx *ctx, weft_str origin)
{
    WEFT_TRY(weft_set_header(ctx, "Access-Control-Allow-Origin", is_any ? weft_cstr("*") : origin));
    if (!has_credentials)
        return WEFT_OK;
    return weft_set_header(ctx, "Access-Control-Allow-Credentials", weft_cstr("true"));
}

/* What a browser asks before it sends a request that a form could not have sent. */
static weft_status answer_preflight(weft_ctx *ctx)
{
    weft_str origin = allowed_origin(ctx);

    if (origin.ptr == NULL)
        return weft_problem(ctx, 403, "this origin may not use what is served here");
    WEFT_TRY(weft_set_header(ctx, "Access-Control-Allow-Methods", methods));
    if (headers.len > 0)
        WEFT_TRY(weft_set_header(ctx, "Access-Control-Allow-Headers", headers));
    WEFT_TRY(weft_set_header(ctx, "Access-Control-Max-Age",
                             weft_fmt(ctx, "%lld", (long long)max_age_s)));
    return weft_reply(ctx, 204, NULL, weft_cstr(""));
}

static weft_status before(weft_ctx *ctx, void *self)
{
    (void)self;
    if (!weft_equal(weft_method(ctx), weft_cstr("OPTIONS")) ||
        weft_header(ctx, "Origin").ptr == NULL ||
        weft_header(ctx, "Access-Control-Request-Method").ptr == NULL)
        return WEFT_OK;
    return answer_preflight(ctx);
}

/* A cache that gives one origin's answer to another would break the second one's page. */
static weft_status after(weft_ctx *ctx, void *self)
{
    weft_str origin = allowed_origin(ctx);

    (void)self;
    if (!is_any)
        WEFT_TRY(weft_set_header(ctx, "Vary", weft_cstr("Origin")));
    if (origin.ptr == NULL || weft_reply_header(ctx, "Access-Control-Allow-Origin").ptr != NULL)
        return WEFT_OK;
    if (exposed.len > 0)
        WEFT_TRY(weft_set_header(ctx, "Access-Control-Expose-Headers", exposed));
    return allow_origin(ctx, origin);
}

static weft_status init(weft_host *host, void **self)
{
    weft_filter_options options = {sizeof options, 0, NULL, before, after, NULL};

    (void)self;
    WEFT_TRY(weft_setting(host, "origins", NULL, &origins));
    WEFT_TRY(weft_setting(host, "methods", "GET, HEAD, POST", &methods));
    WEFT_TRY(weft_setting(host, "headers", "", &headers));
    WEFT_TRY(weft_setting(host, "expose", "", &exposed));
    WEFT_TRY(weft_setting_bool(host, "credentials", 0, &has_credentials));
    WEFT_TRY(weft_setting_int(host, "max_age", 0, 86400, 600, &max_age_s));
    WEFT_TRY(weft_setting_int(host, "order", INT32_MIN, INT32_MAX, -200, &order));
    is_any = weft_equal(origins, weft_cstr("*")) ? 1 : 0;
    if (is_any && has_credentials) {
        weft_log(NULL, WEFT_LOG_ERROR,
                 "origins = * and credentials = on: browsers refuse that; list the origins");
        return WEFT_E_INVALID;
    }
    options.order = (int32_t)order;
    return weft_filter(host, &options);
}

WEFT_PLUGIN("cors", "1.0", init, NULL, NULL);
