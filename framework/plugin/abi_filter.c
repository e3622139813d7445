/* plugin/abi_filter.c - filters: the part of the table `http` about them, and how they are asked.
 *
 * A request's filters that want to be asked are, one after the other, on one fiber: until one has
 * answered, or all have let it pass. What sees an answer, or changes its body, runs inside the call
 * that replies, on whatever stack that is.
 */
#include "base/check.h"
#include "http/filter.h"
#include "http/response.h"
#include "observe/blame.h"
#include "plugin/inside.h"
#include <assert.h>

static_assert(WEFT_PIECE_LAST == HTTP_PIECE_LAST && WEFT_PIECE_FLUSH == HTTP_PIECE_FLUSH,
              "flags of a piece");

static void *self_of(const struct abi_filter *filter)
{
    return filter->self != NULL ? filter->self : filter->instance->self;
}

/* ---- before ---- */

/* Whose turn it is, for the log and the page of blame; NULL: nobody's any more. */
static void note_turn(struct http_request *request, const struct abi_filter *filter)
{
    const struct http_route *route = request->match.route;
    struct abi_service *service = request->user;

    service->filter = filter;
    if (filter != NULL)
        request->scope->blame_index = filter->blame_index;
    else
        request->scope->blame_index = route != NULL ? route->blame_index : BLAME_HOST;
}

/* Plugin code is entered anew: the page of blame is told by who runs it. */
static weft_status ask(struct scope *scope, const struct abi_filter *filter)
{
    struct blame *page = filter->instance->abi->services.blame;

    blame_enter(page, filter->blame_index, scope->request_id);
    return filter->before(abi_ctx(scope), self_of(filter));
}

/* Is somebody told later of what it started? Then that one was to decide, and nobody has. */
static bool is_undecided(const struct scope *scope)
{
    for (const struct op *op = op_next(scope, NULL); op != NULL; op = op_next(scope, op)) {
        if (op->is_deaf && op->state != OP_TOLD)
            return true;
    }
    return false;
}

/* Has it let the request pass? */
static bool has_passed(struct scope *scope, const struct http_request *request, weft_status status)
{
    if (status == WEFT_OK && request->reply == HTTP_REPLY_NONE && is_undecided(scope)) {
        abi_misuse("filter", "before() returned while a callback of weft_then() is still to come: "
                             "nobody is let pass like that");
        status = WEFT_E_STATE;
    }
    if (status == WEFT_OK && request->reply == HTTP_REPLY_NONE)
        return true;
    abi_take_status(scope, status);
    return false;
}

static void ask_all(struct scope *scope, void *data)
{
    struct http_request *request = data;

    for (uint32_t i = 0; i < request->filter_count; i++) {
        const struct abi_filter *filter = request->filters[i]->data;

        if (filter->before == NULL)
            continue;
        note_turn(request, filter);
        if (!has_passed(scope, request, ask(scope, filter)))
            return;
    }
    note_turn(request, NULL);
    http_request_pass(request);
}

static void on_ask(struct http_request *request, const struct http_filter *filter)
{
    (void)filter;
    abi_take_request(request);
    if (scope_run(request->scope, ask_all, request, false))
        return;
    request->why = "fibers";
    abi_answer_failure(request, WEFT_E_OVERLOAD);
}

/* ---- after ---- */

/* Who ran before a filter that looks at what they sent. */
struct turn {
    const struct abi_filter *seeing; /* of the abi */
    uint32_t blame_index;            /* of the page */
    uint64_t request;                /* the same */
};

static struct turn enter(const struct abi_filter *filter, const struct scope *scope)
{
    struct abi *abi = filter->instance->abi;
    struct blame *page = abi->services.blame;
    struct turn turn = {.seeing = abi->seeing, .blame_index = BLAME_HOST};

    if (page != NULL) {
        turn.blame_index = page->index;
        turn.request = page->request;
    }
    abi->seeing = filter;
    blame_enter(page, filter->blame_index, scope->request_id);
    return turn;
}

static void leave(const struct abi_filter *filter, const struct turn *turn)
{
    struct abi *abi = filter->instance->abi;

    abi->seeing = turn->seeing;
    if (turn->blame_index == BLAME_HOST)
        blame_leave(abi->services.blame);
    else
        blame_enter(abi->services.blame, turn->blame_index, turn->request);
}

static void tell(const struct scope *scope, const char *what, weft_status status)
{
    struct abi_who who;

    abi_who(abi_here(), scope, &who);
    log_write_fields(abi_log_site(span_of(what), who.fields[1].value), LOG_ERROR, who.fields, 3,
                     "%s: %s: status %d", what, abi_status_text(status), (int)status);
}

static void on_see(struct http_request *request, const struct http_filter *given)
{
    const struct abi_filter *filter = given->data;
    struct turn turn = enter(filter, request->scope);
    weft_status status;

    abi_take_request(request); /* one that the host has refused was nobody's yet */
    status = filter->after(abi_ctx(request->scope), self_of(filter));
    if (status != WEFT_OK)
        tell(request->scope, "a filter of an answer failed, which is sent all the same", status);
    leave(filter, &turn);
}

/* ---- changes ---- */

/* A plugin's change of a body. */
struct change {
    const struct abi_filter *filter; /* that asked for it */
    weft_transform_fn *fn;           /* the plugin's */
    void *data;                      /* for fn */
};

static bool on_piece(struct http_request *request, void *data, struct span in, uint32_t flags,
                     struct span *out)
{
    const struct change *change = data;
    struct turn turn = enter(change->filter, request->scope);
    weft_str made = {"", 0};
    weft_status status =
        change->fn(abi_ctx(request->scope), change->data, abi_str(in), flags, &made);

    if (status != WEFT_OK)
        tell(request->scope, "a filter cannot change an answer, which is broken off", status);
    leave(change->filter, &turn);
    *out = abi_span(made);
    return status == WEFT_OK;
}

weft_status abi_transform(weft_ctx *ctx, weft_transform_fn *fn, void *data)
{
    struct http_request *request = abi_request(ctx, "transform");
    const struct abi *abi = abi_here();
    struct change *change;

    if (request == NULL)
        return WEFT_E_STATE;
    if (fn == NULL || abi->seeing == NULL || request->reply != HTTP_REPLY_SEEN) {
        abi_misuse("transform", fn == NULL ? "no function" : "no answer's head is seen");
        return fn == NULL ? WEFT_E_INVALID : WEFT_E_STATE;
    }
    change = scope_alloc(request->scope, sizeof *change);
    *change = (struct change){.filter = abi->seeing, .fn = fn, .data = data};
    return abi_status(http_reply_transform(request, on_piece, change));
}

/* ---- the head ---- */

/* The request whose answer's head is seen; NULL: that was told. */
static struct http_request *seen(weft_ctx *ctx, const char *call)
{
    struct http_request *request = abi_request(ctx, call);

    if (request == NULL || request->reply == HTTP_REPLY_SEEN)
        return request;
    abi_misuse(call, "no answer's head is seen");
    return NULL;
}

uint32_t abi_reply_code(weft_ctx *ctx)
{
    const struct http_request *request = seen(ctx, "reply_code");

    return request != NULL ? request->code : 0;
}

weft_str abi_reply_header(weft_ctx *ctx, const char *name)
{
    const struct http_request *request = seen(ctx, "reply_header");
    struct http_fields fields;

    if (request == NULL || name == NULL)
        return abi_str((struct span){0});
    if (request->reply_type.len > 0 && span_equal_nocase(span_of(name), SPAN("Content-Type")))
        return abi_str(arena_copy(&request->scope->arena, request->reply_type));
    fields = (struct http_fields){request->reply_fields, request->reply_field_count};
    return abi_str(http_field_get(&fields, span_of(name)));
}

weft_status abi_remove_header(weft_ctx *ctx, const char *name)
{
    struct http_request *request = seen(ctx, "remove_header");

    if (request == NULL || name == NULL)
        return request == NULL ? WEFT_E_STATE : WEFT_E_INVALID;
    return abi_status(http_reply_remove_field(request, span_of(name)));
}

int64_t abi_reply_length(weft_ctx *ctx)
{
    const struct http_request *request = seen(ctx, "reply_length");

    return request != NULL ? request->_reply_left : -1;
}

/* ---- at init ---- */

static weft_status add(struct instance *instance, const weft_filter_options *options)
{
    const struct plugin_services *services = abi_services(instance->abi);
    const char *prefix = options->prefix != NULL ? options->prefix : "";
    struct abi_filter *filter = arena_alloc(&instance->arena, sizeof *filter);
    struct http_filter made = {.order = options->order, .owner = instance->name, .data = filter};
    enum err err;

    made.prefix =
        (char *)arena_format(&instance->arena, "%s%s", instance->options.mount, prefix).ptr;
    made.ask = options->before != NULL ? on_ask : NULL;
    made.see = options->after != NULL ? on_see : NULL;
    *filter = (struct abi_filter){.instance = instance,
                                  .before = options->before,
                                  .after = options->after,
                                  .self = options->self};
    filter->text = arena_format(&instance->arena, "filter %s", made.prefix).ptr;
    err = router_add_filter(services->router, &made);
    if (err == ERR_OK)
        filter->blame_index =
            blame_name(services->blame, span_of(instance->name), span_of(filter->text));
    else
        instance_fail(instance, 0, "%s: %s", filter->text,
                      err == ERR_TOO_BIG ? "there are 64 filters already"
                                         : "expected a prefix of exact segments, such as /admin");
    return err == ERR_OK ? WEFT_OK : WEFT_E_INVALID;
}

weft_status abi_add_filter(weft_host *host, const weft_filter_options *given)
{
    struct instance *instance = abi_init_of(host, "filter");
    weft_filter_options options;

    if (instance == NULL)
        return WEFT_E_STATE;
    if (!abi_take_options(&options, sizeof options, given)) {
        instance_fail(instance, 0, "a filter with options that this host does not know");
        return WEFT_E_UNSUPPORTED;
    }
    if (options.before == NULL && options.after == NULL) {
        instance_fail(instance, 0, "a filter with neither before() nor after()");
        return WEFT_E_INVALID;
    }
    return add(instance, &options);
}
