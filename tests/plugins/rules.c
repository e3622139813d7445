/* Goal: each rule of weft.h on ops, groups, children, deadlines and fibers, checked by a plugin,
 * where it stands: a route a rule, which answers "ok" or the first condition that did not hold. It
 * has no start(): what is posted runs all the same. */
#include "weft.h"

#include <stdbool.h>

enum { NEVER_MS = 60000, MANY = 20 };

static const char *broken; /* the first condition that did not hold */
static char trail[64];     /* what callbacks left, in their order */
static weft_inbox *inbox;
static uint32_t rounds; /* of /endless */
static bool may_end;    /* /endless */
static weft_op *shared; /* by two fibers */

#define MUST(is_so)                     \
    do {                                \
        if (!(is_so) && broken == NULL) \
            broken = "not so: " #is_so; \
    } while (0)

static void leave(char mark)
{
    size_t len = strlen(trail);

    if (len + 1 < sizeof trail) {
        trail[len] = mark;
        trail[len + 1] = '\0';
    }
}

static bool trail_is(const char *wanted)
{
    bool is_so = strcmp(trail, wanted) == 0;

    trail[0] = '\0';
    return is_so;
}

static weft_status verdict(weft_ctx *ctx)
{
    const char *text = broken != NULL ? broken : "ok";

    broken = NULL;
    return weft_reply_text(ctx, 200, text);
}

static void pause_for(weft_ctx *ctx, uint32_t ms)
{
    MUST(weft_await(weft_sleep(ctx, ms)) == WEFT_OK);
}

/* An op that has settled OK, and has no consumer. */
static weft_op *settled_op(weft_ctx *ctx)
{
    weft_op *op = weft_sleep(ctx, 1);

    pause_for(ctx, 3);
    MUST(weft_op_status(op) == WEFT_OK);
    return op;
}

static weft_status fail_after(weft_ctx *ctx, void *self)
{
    WEFT_TRY(weft_await(weft_sleep(ctx, (uint32_t)(uintptr_t)self)));
    return WEFT_E_TOO_BIG;
}

static weft_op *failing_op(weft_ctx *ctx, uintptr_t ms)
{
    return weft_spawn(ctx, fail_after, (void *)ms);
}

/* ---- consumers ---- */

static weft_status on_mark(weft_ctx *ctx, weft_op *op, void *data)
{
    MUST(weft_op_status(op) != WEFT_PENDING);
    (void)ctx;
    leave(*(const char *)data);
    return WEFT_OK;
}

static weft_status then_on_a_settled_op(weft_ctx *ctx, void *self)
{
    weft_op *op = settled_op(ctx);

    (void)self;
    MUST(weft_then(op, on_mark, "a") == WEFT_OK);
    MUST(trail_is("")); /* never from inside the call that took it */
    pause_for(ctx, 1);
    MUST(trail_is("a"));
    MUST(weft_then(op, on_mark, "b") == WEFT_E_STATE);
    MUST(weft_await(op) == WEFT_E_STATE);
    pause_for(ctx, 1);
    MUST(trail_is(""));
    return verdict(ctx);
}

static weft_status on_inner(weft_ctx *ctx, weft_op *op, void *data)
{
    (void)op;
    leave('(');
    MUST(weft_then(*(weft_op **)data, on_mark, "b") == WEFT_OK);
    weft_op_cancel(weft_sleep(ctx, NEVER_MS));
    leave(')');
    return WEFT_OK;
}

static weft_status then_inside_then(weft_ctx *ctx, void *self)
{
    weft_op *outer = settled_op(ctx), *inner = settled_op(ctx);

    (void)self;
    MUST(weft_then(outer, on_inner, &inner) == WEFT_OK);
    pause_for(ctx, 3);
    MUST(trail_is("()b"));
    return verdict(ctx);
}

static weft_status then_and_cancel(weft_ctx *ctx, void *self)
{
    weft_op *op = weft_sleep(ctx, NEVER_MS), *second = weft_sleep(ctx, NEVER_MS);

    (void)self;
    MUST(weft_then(op, on_mark, "a") == WEFT_OK);
    MUST(weft_await(NULL) == WEFT_E_STATE);
    weft_op_cancel(op);
    MUST(weft_op_status(op) == WEFT_E_CANCELED); /* settled, and not yet told */
    MUST(trail_is(""));
    weft_op_cancel(op); /* a settled one stays as it is */
    pause_for(ctx, 1);
    MUST(trail_is("a"));
    weft_op_cancel(second); /* nobody waits for it */
    MUST(weft_await(second) == WEFT_E_CANCELED);
    return verdict(ctx);
}

/* ---- callbacks that cancel ---- */

static weft_status on_cancel_op(weft_ctx *ctx, weft_op *op, void *data)
{
    (void)ctx;
    leave('x');
    weft_op_cancel(op); /* itself: it has settled */
    MUST(weft_op_status(op) == WEFT_OK);
    weft_op_cancel(*(weft_op **)data);
    MUST(weft_op_status(*(weft_op **)data) == WEFT_E_CANCELED);
    leave('y');
    return WEFT_OK;
}

static weft_status cancel_sibling(weft_ctx *ctx, void *self)
{
    weft_op *op = weft_sleep(ctx, 5), *sibling = weft_sleep(ctx, NEVER_MS);

    (void)self;
    MUST(weft_then(sibling, on_mark, "s") == WEFT_OK);
    MUST(weft_then(op, on_cancel_op, &sibling) == WEFT_OK);
    pause_for(ctx, 10);
    MUST(trail_is("xys"));
    return verdict(ctx);
}

/* It runs in its op's ctx, the child. */
static weft_status on_cancel_ctx(weft_ctx *child, weft_op *op, void *data)
{
    (void)op;
    MUST(child == data);
    leave('x');
    weft_cancel(child);
    MUST(weft_why(child) == WEFT_WHY_EXPLICIT);
    MUST(weft_await(weft_sleep(child, 1)) == WEFT_E_CANCELED);
    leave('y');
    return WEFT_OK;
}

static weft_status cancel_own_ctx(weft_ctx *ctx, void *self)
{
    weft_ctx *child = weft_child(ctx, 0, 0);
    weft_op *op = weft_sleep(child, 5), *other = weft_sleep(child, NEVER_MS);

    (void)self;
    MUST(weft_then(other, on_mark, "s") == WEFT_OK);
    MUST(weft_then(op, on_cancel_ctx, child) == WEFT_OK);
    pause_for(ctx, 10);
    MUST(trail_is("xys"));
    MUST(weft_why(ctx) == WEFT_WHY_NONE);
    return verdict(ctx);
}

/* What those left who could not tell. */
static weft_status show_trail(weft_ctx *ctx, void *self)
{
    weft_str text = weft_fmt(ctx, "%s %s", broken != NULL ? broken : "ok", trail);

    (void)self;
    broken = NULL;
    trail[0] = '\0';
    return weft_reply(ctx, 200, "text/plain", text);
}

static weft_status on_replied(weft_ctx *ctx, weft_op *op, void *data)
{
    (void)data;
    MUST(weft_op_status(op) == WEFT_E_CANCELED);
    MUST(weft_why(ctx) == WEFT_WHY_REPLIED);
    MUST(weft_reply_text(ctx, 200, "again") == WEFT_E_STATE);
    leave('r');
    return WEFT_E_NOT_FOUND; /* too late: there is a reply */
}

static weft_status reply_with_pending(weft_ctx *ctx, void *self)
{
    weft_op *told = weft_sleep(ctx, NEVER_MS), *silent = weft_sleep(ctx, NEVER_MS);

    (void)self;
    MUST(weft_then(told, on_replied, NULL) == WEFT_OK);
    MUST(weft_why(ctx) == WEFT_WHY_NONE);
    WEFT_TRY(verdict(ctx));
    MUST(weft_await(silent) == WEFT_E_CANCELED);
    MUST(weft_why(ctx) == WEFT_WHY_REPLIED);
    leave('h');
    return WEFT_OK;
}

/* ---- groups ---- */

static weft_status groups_of_none(weft_ctx *ctx, void *self)
{
    weft_op *all = weft_all(ctx, 0, NULL);

    (void)self;
    MUST(weft_op_status(all) == WEFT_OK);
    MUST(weft_await(all) == WEFT_OK);
    MUST(weft_winner(all) == -1);
    MUST(weft_await(weft_any(ctx, 0, NULL)) == WEFT_E_INVALID);
    MUST(weft_await(weft_race(ctx, 0, NULL)) == WEFT_E_INVALID);
    return verdict(ctx);
}

static weft_status groups_of_one(weft_ctx *ctx, void *self)
{
    weft_op *good = weft_sleep(ctx, 5), *bad = failing_op(ctx, 5), *group;

    (void)self;
    MUST(weft_await(weft_all(ctx, 1, &good)) == WEFT_OK);
    MUST(weft_await(weft_any(ctx, 1, &good)) == WEFT_OK); /* a group more: no consumer */
    MUST(weft_await(weft_race(ctx, 1, &good)) == WEFT_OK);
    group = weft_all(ctx, 1, &bad);
    MUST(weft_await(group) == WEFT_E_TOO_BIG);
    MUST(weft_winner(group) == 0);
    MUST(weft_await(weft_any(ctx, 1, &bad)) == WEFT_E_TOO_BIG);
    MUST(weft_await(weft_race(ctx, 1, &bad)) == WEFT_E_TOO_BIG);
    MUST(weft_await(good) == WEFT_OK); /* its consumer is yet to come */
    return verdict(ctx);
}

/* MANY of them that settle in one turn. */
static void many(weft_ctx *ctx, weft_op **ops)
{
    for (uint32_t i = 0; i < MANY; i++)
        ops[i] = weft_sleep(ctx, 5);
}

static weft_status groups_of_many(weft_ctx *ctx, void *self)
{
    weft_op *ops[MANY], *group;
    uint32_t canceled = 0;

    (void)self;
    many(ctx, ops);
    group = weft_all(ctx, MANY, ops);
    MUST(weft_await(group) == WEFT_OK);
    MUST(weft_winner(group) == -1);
    many(ctx, ops);
    group = weft_any(ctx, MANY, ops);
    MUST(weft_await(group) == WEFT_OK);
    MUST(weft_winner(group) >= 0);
    many(ctx, ops);
    ops[3] = weft_sleep(ctx, 2);
    group = weft_race(ctx, MANY, ops);
    MUST(weft_await(group) == WEFT_OK);
    MUST(weft_winner(group) == 3);
    for (uint32_t i = 0; i < MANY; i++)
        canceled += weft_op_status(ops[i]) == WEFT_E_CANCELED;
    MUST(canceled == MANY - 1); /* losers really are */
    return verdict(ctx);
}

/* The first error in the order of the arguments, when all have settled. */
static weft_status all_settles_last(weft_ctx *ctx, void *self)
{
    weft_op *ops[] = {weft_sleep(ctx, NEVER_MS), failing_op(ctx, 5), failing_op(ctx, 5)};
    weft_op *group = weft_all(ctx, 3, ops);

    (void)self;
    MUST(weft_await(group) == WEFT_E_TOO_BIG);
    MUST(weft_winner(group) == 1);
    for (uint32_t i = 0; i < 3; i++)
        MUST(weft_op_status(ops[i]) != WEFT_PENDING);
    MUST(weft_op_status(ops[0]) == WEFT_E_CANCELED);
    return verdict(ctx);
}

static weft_status groups_within_groups(weft_ctx *ctx, void *self)
{
    weft_op *leaves[] = {weft_sleep(ctx, 5), weft_sleep(ctx, NEVER_MS), weft_sleep(ctx, NEVER_MS),
                         weft_sleep(ctx, 2)};
    weft_op *pairs[] = {weft_any(ctx, 2, leaves), weft_race(ctx, 2, leaves + 2)};
    weft_op *group = weft_all(ctx, 2, pairs);

    (void)self;
    MUST(weft_await(group) == WEFT_OK);
    MUST(weft_op_status(leaves[1]) == WEFT_E_CANCELED);
    MUST(weft_op_status(leaves[2]) == WEFT_E_CANCELED);
    MUST(weft_winner(pairs[0]) == 0 && weft_winner(pairs[1]) == 1);
    group = weft_sleep(ctx, NEVER_MS);
    leaves[0] = group;
    for (uint32_t i = 0; i < 70; i++)
        group = weft_all(ctx, 1, &group);
    MUST(weft_op_status(group) == WEFT_E_INVALID); /* of more than 64 within one another */
    MUST(weft_op_status(leaves[0]) == WEFT_PENDING);
    return verdict(ctx);
}

static weft_status child_of_two_groups(weft_ctx *ctx, void *self)
{
    weft_op *both = weft_sleep(ctx, 5), *quick = weft_sleep(ctx, 2);
    weft_op *first[] = {both, quick}, *second[] = {both, weft_sleep(ctx, NEVER_MS)};
    weft_op *all = weft_all(ctx, 2, first), *any = weft_any(ctx, 2, second);

    (void)self;
    MUST(weft_await(any) == WEFT_OK);
    MUST(weft_winner(any) == 0);
    MUST(weft_await(all) == WEFT_OK);
    MUST(weft_op_status(second[1]) == WEFT_E_CANCELED);
    return verdict(ctx);
}

/* A canceled group takes its children along. */
static weft_status cancel_group(weft_ctx *ctx, void *self)
{
    weft_op *ops[] = {weft_sleep(ctx, NEVER_MS), weft_sleep(ctx, NEVER_MS)};
    weft_op *group = weft_all(ctx, 2, ops);

    (void)self;
    weft_op_cancel(group);
    MUST(weft_op_status(ops[0]) == WEFT_E_CANCELED);
    MUST(weft_op_status(ops[1]) == WEFT_E_CANCELED);
    MUST(weft_await(group) == WEFT_E_CANCELED);
    return verdict(ctx);
}

/* ---- children ---- */

static weft_status supervise(weft_ctx *ctx, void *self)
{
    weft_ctx *child = weft_child(ctx, 0, WEFT_CHILD_SUPERVISE);
    weft_op *ops[] = {failing_op(child, 1), weft_sleep(child, 20)};

    (void)self;
    MUST(weft_await(weft_all(child, 2, ops)) == WEFT_E_TOO_BIG);
    MUST(weft_op_status(ops[1]) == WEFT_OK); /* the others go on */
    MUST(weft_end(child) == WEFT_OK);
    MUST(weft_end(child) == WEFT_E_STATE);
    return verdict(ctx);
}

/* The client leaves, and the shielded child comes to its end: see /trail. */
static weft_status shield(weft_ctx *ctx, void *self)
{
    weft_ctx *child = weft_child(ctx, 1000, WEFT_CHILD_SHIELD);

    (void)self;
    MUST(weft_await(weft_sleep(ctx, NEVER_MS)) == WEFT_E_CANCELED);
    MUST(weft_why(ctx) == WEFT_WHY_CLIENT_GONE);
    MUST(weft_why(child) == WEFT_WHY_NONE);
    pause_for(child, 50);
    leave('f');
    return weft_reply_text(ctx, 200, "to nobody");
}

/* ---- deadlines ---- */

static weft_status deadline_of_child(weft_ctx *ctx, void *self)
{
    weft_ctx *child = weft_child(ctx, 30, 0);
    weft_op *spawned = failing_op(child, NEVER_MS);

    (void)self;
    MUST(weft_budget_ms(child) <= 30);
    pause_for(child, 20); /* it is absolute: this counts */
    MUST(weft_await(weft_sleep(child, 20)) == WEFT_E_DEADLINE);
    MUST(weft_why(child) == WEFT_WHY_DEADLINE);
    MUST(weft_budget_ms(child) == 0);
    MUST(weft_op_status(weft_sleep(child, 1)) == WEFT_E_DEADLINE); /* nothing is started */
    MUST(weft_await(spawned) == WEFT_E_DEADLINE);
    MUST(weft_op_status(weft_sleep(weft_child(child, 100, 0), 1)) == WEFT_E_DEADLINE);
    MUST(weft_why(ctx) == WEFT_WHY_NONE);
    return verdict(ctx);
}

/* The route has 200 ms. */
static weft_status deadlines_only_tighten(weft_ctx *ctx, void *self)
{
    weft_ctx *longer = weft_child(ctx, NEVER_MS, 0), *same = weft_child(ctx, 0, 0);
    weft_ctx *shielded = weft_child(ctx, 500, WEFT_CHILD_SHIELD);

    (void)self;
    MUST(weft_budget_ms(ctx) <= 200 && weft_budget_ms(ctx) > 100);
    MUST(weft_budget_ms(longer) == weft_budget_ms(ctx));
    MUST(weft_budget_ms(same) == weft_budget_ms(ctx));
    MUST(weft_budget_ms(weft_child(weft_child(longer, 20, 0), 50, 0)) <= 20);
    MUST(weft_budget_ms(shielded) > 300); /* its own: it may outlive the request */
    MUST(weft_child(ctx, 0, WEFT_CHILD_SHIELD) == NULL);
    return verdict(ctx);
}

/* ---- fibers ---- */

static weft_status await_shared(weft_ctx *ctx, void *self)
{
    (void)ctx;
    (void)self;
    return weft_await(shared);
}

static weft_status await_of_two_fibers(weft_ctx *ctx, void *self)
{
    weft_op *other;

    (void)self;
    shared = weft_sleep(ctx, 10);
    other = weft_spawn(ctx, await_shared, NULL);
    pause_for(ctx, 3);
    MUST(weft_await(shared) == WEFT_E_STATE); /* one consumer */
    MUST(weft_await(other) == WEFT_OK);
    return verdict(ctx);
}

/* One that awaits one that awaits one ...: the depth comes back. */
static weft_status nest(weft_ctx *ctx, void *self)
{
    uintptr_t depth = (uintptr_t)self;

    pause_for(ctx, 1);
    return depth == 0 ? WEFT_E_TOO_SLOW : weft_await(weft_spawn(ctx, nest, (void *)(depth - 1)));
}

static weft_status nested_awaits(weft_ctx *ctx, void *self)
{
    (void)self;
    MUST(weft_await(weft_spawn(ctx, nest, (void *)30)) == WEFT_E_TOO_SLOW);
    return verdict(ctx);
}

static weft_status on_await(weft_ctx *ctx, weft_op *op, void *data)
{
    (void)op;
    pause_for(ctx, 2);
    leave(*(const char *)data);
    return WEFT_OK;
}

static weft_status await_inside_then(weft_ctx *ctx, void *self)
{
    (void)self;
    MUST(weft_then(weft_sleep(ctx, 1), on_await, "a") == WEFT_OK);
    MUST(weft_then(weft_sleep(ctx, 2), on_await, "b") == WEFT_OK);
    pause_for(ctx, 10);
    MUST(trail_is("ab"));
    return verdict(ctx);
}

/* The worst handler: hears of nothing. Only /may-end ends it. */
static weft_status endless(weft_ctx *ctx, void *self)
{
    (void)self;
    for (rounds = 0, may_end = false; !may_end; rounds++)
        (void)!weft_await(weft_sleep(ctx, 5));
    return WEFT_OK;
}

static weft_status end_endless(weft_ctx *ctx, void *self)
{
    (void)self;
    may_end = true;
    return weft_reply(ctx, 200, "text/plain", weft_fmt(ctx, "%u", rounds));
}

/* ---- options that are larger or smaller than the host's ---- */

/* What somebody compiled against a later header hands over. */
struct later_route {
    weft_route_options known;
    uint32_t more; /* no larger: there must be no padding before it */
};
struct later_filter {
    weft_filter_options known;
    uint64_t more;
};
struct later_reply {
    weft_reply_options known;
    uint64_t more;
};
struct later_file {
    weft_file known;
    uint64_t more;
};

static weft_status nothing(weft_ctx *ctx, void *self)
{
    (void)ctx;
    (void)self;
    return WEFT_OK;
}

static void options_at_init(weft_host *host)
{
    struct later_route route = {{sizeof route, 0, 0, 0, 0}, 1};
    struct later_filter filter = {{sizeof filter, 0, "/nowhere", nothing, NULL, NULL}, 1};
    struct {
        uint32_t size, flags;
    } shorter = {sizeof shorter, WEFT_ROUTE_FINISH};

    MUST(weft_route_with(host, "GET", "/later", nothing, NULL, &route.known) == WEFT_E_UNSUPPORTED);
    MUST(weft_filter(host, &filter.known) == WEFT_E_UNSUPPORTED);
    route.more = 0;
    filter.more = 0;
    MUST(weft_route_with(host, "GET", "/later", nothing, NULL, &route.known) == WEFT_OK);
    MUST(weft_filter(host, &filter.known) == WEFT_OK);
    MUST(weft_route_with(host, "GET", "/shorter", nothing, NULL, (const void *)&shorter) ==
         WEFT_OK);
    route.known.size = filter.known.size = 0; /* forgotten */
    MUST(weft_route_with(host, "GET", "/none", nothing, NULL, &route.known) == WEFT_E_UNSUPPORTED);
    MUST(weft_filter(host, &filter.known) == WEFT_E_UNSUPPORTED);
}

static weft_status options_of_replies(weft_ctx *ctx, void *self)
{
    struct later_reply reply = {{sizeof reply, 0, 0, 0, 0, {NULL, 0}}, 1};
    struct later_file file = {{sizeof file, -1, 0, 0}, 1};
    const char *text;

    (void)self;
    MUST(weft_reply_begin_with(ctx, 200, NULL, &reply.known) == WEFT_E_UNSUPPORTED);
    MUST(weft_reply_file(ctx, 200, NULL, &file.known) != WEFT_OK);
    reply.more = 0;
    reply.known.size = 0;
    MUST(weft_reply_begin_with(ctx, 200, NULL, &reply.known) == WEFT_E_UNSUPPORTED);
    reply.known.size = sizeof reply;
    MUST(weft_reply_begin_with(ctx, 200, NULL, &reply.known) == WEFT_OK);
    text = broken != NULL ? broken : "ok";
    WEFT_TRY(weft_await(weft_write(ctx, weft_cstr(text))));
    broken = NULL;
    return weft_reply_end(ctx);
}

/* ---- posts, without a start() ---- */

static weft_status on_post(weft_ctx *background, void *data)
{
    pause_for(background, 1);
    leave(*(const char *)data);
    if (*(const char *)data == 'q')
        MUST(weft_await(weft_sleep(background, NEVER_MS)) == WEFT_E_CANCELED &&
             weft_why(background) == WEFT_WHY_SHUTDOWN);
    return WEFT_OK;
}

static weft_status post(weft_ctx *ctx, void *self)
{
    (void)self;
    MUST(weft_post(inbox, on_post, "p") == WEFT_OK);
    MUST(trail_is(""));
    pause_for(ctx, 5);
    MUST(trail_is("p"));
    MUST(weft_post(inbox, on_post, "q") == WEFT_OK); /* and waits until the worker ends */
    return verdict(ctx);
}

static weft_status init(weft_host *host, void **self)
{
    static const struct {
        const char *pattern;
        weft_handler *fn;
        uint32_t timeout_ms;
    } routes[] = {
        {"/then-settled", then_on_a_settled_op, 0},
        {"/then-then", then_inside_then, 0},
        {"/then-cancel", then_and_cancel, 0},
        {"/cancel-sibling", cancel_sibling, 0},
        {"/cancel-ctx", cancel_own_ctx, 0},
        {"/reply-pending", reply_with_pending, 0},
        {"/trail", show_trail, 0},
        {"/none", groups_of_none, 0},
        {"/one", groups_of_one, 0},
        {"/many", groups_of_many, 0},
        {"/all", all_settles_last, 0},
        {"/groups", groups_within_groups, 0},
        {"/two-groups", child_of_two_groups, 0},
        {"/cancel-group", cancel_group, 0},
        {"/supervise", supervise, 0},
        {"/shield", shield, 0},
        {"/deadline", deadline_of_child, 0},
        {"/tighten", deadlines_only_tighten, 200},
        {"/two-fibers", await_of_two_fibers, 0},
        {"/nested", nested_awaits, 0},
        {"/await-then", await_inside_then, 0},
        {"/endless", endless, 20},
        {"/may-end", end_endless, 0},
        {"/post", post, 0},
        {"/options", options_of_replies, 0},
    };

    (void)self;
    WEFT_TRY(weft_open_inbox(host, &inbox));
    options_at_init(host);
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++) {
        const weft_route_options options = {sizeof options, 0, routes[i].timeout_ms, 0, 0};
        WEFT_TRY(weft_route_with(host, "GET", routes[i].pattern, routes[i].fn, NULL, &options));
    }
    return WEFT_OK;
}

/* What broke when nobody could be told any more. */
static void fini(void *self)
{
    (void)self;
    weft_log(NULL, WEFT_LOG_INFO, "rules: %s", broken != NULL ? broken : "ok");
}

WEFT_PLUGIN("rules", "1.0", init, NULL, fini);
