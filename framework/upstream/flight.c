/* upstream/flight.c - one call for all who ask the same, or a second one where the first is slow.
 *
 *   FLYING ──▶ LANDED        one of its calls was answered, or all have failed, or nobody follows
 *
 * The second call takes off after hedge_ms, to another address where there is one, if the budget
 * for retries has one and a connection is to be had at once. The first answer counts; the other
 * call is canceled.
 *
 * The calls may take as long as the most patient follower. Where the time of the last one is over,
 * it is they that fail, so that counters and breaker learn of it.
 */
#include "upstream/flight.h"
#include "base/check.h"
#include "task/scope.h"
#include "upstream/call.h"

enum { CALLS_MAX = 2 };

/* One of a flight's calls. */
struct wing {
    struct flight *flight;  /* whose */
    struct op *op;          /* an inner call's; NULL: it did not take off */
    struct op_watch settle; /* tells when it has settled */
};

struct flight {
    struct upstream *upstream;    /* whose */
    struct scope *scope;          /* its own root */
    struct list link;             /* among the upstream's shared ones */
    struct list followers;        /* struct call */
    struct upstream_call what;    /* texts in the scope */
    struct span key;              /* the request without what goes along; absent: not shared */
    struct wing wings[CALLS_MAX]; /* its calls */
    uint32_t under_way;           /* of them */
    struct timer hedge;           /* the second one's */
    uint64_t due_ms;              /* when the last follower's time is over */
    bool has_landed;              /* its followers were told */
};

static uint32_t hedge_ms_of(const struct upstream *upstream, const struct upstream_call *what)
{
    if (what->hedge_ms == UPSTREAM_NO_HEDGE)
        return 0;
    return what->hedge_ms != 0 ? what->hedge_ms : upstream->options->hedge_ms;
}

static bool is_shared(const struct upstream *upstream, const struct upstream_call *what)
{
    return upstream->options->is_single_flight || (what->flags & UPSTREAM_SHARED) != 0;
}

bool flight_is_wanted(const struct upstream *upstream, const struct upstream_call *what)
{
    if (what->body.len > 0 || (what->method.ptr != NULL && !span_equal(what->method, SPAN("GET"))))
        return false;
    return is_shared(upstream, what) || hedge_ms_of(upstream, what) > 0;
}

/* Landing */

static void land(struct flight *flight)
{
    if (flight->has_landed)
        return;
    flight->has_landed = true;
    list_remove(&flight->link);
    timer_stop(&flight->hedge);
    scope_finish(flight->scope, SCOPE_REPLIED); /* cancels what is under way; gone later */
}

void flight_leave(struct call *call)
{
    struct flight *flight = call->flight;

    if (flight == NULL)
        return;
    CHECK(!flight->has_landed);
    list_remove(&call->flight_link);
    call->flight = NULL;
    if (list_is_empty(&flight->followers))
        land(flight);
}

bool flight_time_out(struct call *call)
{
    struct flight *flight = call->flight;

    CHECK(flight != NULL);
    if (flight->followers.next->next != &flight->followers)
        return false;
    list_remove(&flight->link); /* nobody else is to share that */
    for (uint32_t i = 0; i < CALLS_MAX; i++)
        if (flight->wings[i].op != NULL)
            call_time_out(call_of(flight->wings[i].op));
    return true;
}

static struct call *first_of(struct flight *flight)
{
    struct list *link = list_first(&flight->followers);

    return link != NULL ? CONTAINER_OF(link, struct call, flight_link) : NULL;
}

static void land_answered(struct flight *flight, const struct call *inner)
{
    struct call *call;

    if (inner->op.handle != flight->wings[0].op->handle)
        flight->upstream->counts.hedges_won++;
    list_remove(&flight->link); /* who asks from now on gets an answer of his own */
    while ((call = first_of(flight)) != NULL)
        call_adopt(call, inner);
}

static void land_failed(struct flight *flight, const struct op *op)
{
    const char *reason = op->scope->reason;
    struct call *call;

    list_remove(&flight->link);
    while ((call = first_of(flight)) != NULL)
        call_fail_as(call, op->status, reason, op->error);
}

static void on_settled(struct op *op, void *data)
{
    struct flight *flight = ((struct wing *)data)->flight;

    CHECK(flight->under_way > 0);
    flight->under_way--;
    if (flight->has_landed)
        return;
    if (op->status == ERR_OK)
        land_answered(flight, call_of(op));
    else if (flight->under_way == 0)
        land_failed(flight, op);
}

/* Taking off */

static void begin(struct flight *flight, uint32_t index, uint32_t avoid_id)
{
    struct wing *wing = &flight->wings[index];

    CHECK(index < CALLS_MAX);
    CHECK(wing->op == NULL);
    wing->flight = flight;
    wing->settle = (struct op_watch){.fn = on_settled, .data = wing};
    flight->under_way++;
    wing->op =
        call_begin_inner(flight->scope, flight->upstream, &flight->what, index > 0, avoid_id);
    call_of(wing->op)->due_ms = flight->due_ms;
    op_watch(wing->op, &wing->settle);
}

/* Its calls may take as long as `call`; their timers find that out. */
static void be_patient(struct flight *flight, const struct call *call)
{
    if (call->due_ms <= flight->due_ms)
        return;
    flight->due_ms = call->due_ms;
    for (uint32_t i = 0; i < CALLS_MAX; i++)
        if (flight->wings[i].op != NULL)
            call_of(flight->wings[i].op)->due_ms = call->due_ms;
}

static void on_hedge(struct timer *timer)
{
    struct flight *flight = CONTAINER_OF(timer, struct flight, hedge);
    const struct call *first = call_of(flight->wings[0].op);

    if (first->op.state != OP_PENDING)
        return;
    if (first->attempt.state != ATTEMPT_SENT) { /* nobody is slow yet */
        timer_start(flight->upstream->loop, timer, hedge_ms_of(flight->upstream, &flight->what),
                    on_hedge);
        return;
    }
    if (!retry_budget_take(&flight->upstream->budget)) {
        flight->upstream->counts.retries_denied++;
        return;
    }
    flight->upstream->counts.hedged++;
    begin(flight, 1, first->attempt.conn->target->id);
}

static struct span copy(struct scope *scope, struct span text)
{
    return text.ptr != NULL ? arena_copy(&scope->arena, text) : text;
}

/* What goes along is the first one's: that of the others is lost. */
static void copy_call(struct flight *flight, const struct upstream_call *what,
                      const struct upstream_extras *extras)
{
    struct scope *scope = flight->scope;
    struct http_field *fields = scope_alloc(scope, (what->field_count + 2) * sizeof *fields);
    uint32_t count = 0;

    for (; count < what->field_count; count++)
        fields[count] = (struct http_field){copy(scope, what->fields[count].name),
                                            copy(scope, what->fields[count].value)};
    if (extras->traceparent.ptr != NULL)
        fields[count++] =
            (struct http_field){SPAN("traceparent"), copy(scope, extras->traceparent)};
    if (extras->tracestate.ptr != NULL)
        fields[count++] = (struct http_field){SPAN("tracestate"), copy(scope, extras->tracestate)};
    flight->what = *what;
    flight->what.method = SPAN("GET");
    flight->what.path = copy(scope, what->path);
    flight->what.fields = fields;
    flight->what.field_count = count;
}

static void take_off(struct call *call, const struct upstream_call *what, struct span key)
{
    struct upstream *upstream = call->upstream;
    struct scope *from = call->op.scope;
    struct upstream_extras extras = upstream_extras_of(from, upstream->options, what);
    uint64_t left_ms = scope_budget_ms(from);
    struct scope *scope = scope_create(from->tasks, NULL, NULL,
                                       key.ptr != NULL || left_ms == UINT64_MAX ? 0 : left_ms);
    struct flight *flight = scope_alloc(scope, sizeof *flight);
    uint32_t hedge_ms = hedge_ms_of(upstream, what);

    scope->request_id = from->request_id;
    scope->blame_index = from->blame_index;
    flight->upstream = upstream;
    flight->scope = scope;
    flight->key = copy(scope, key);
    flight->due_ms = call->due_ms;
    list_init(&flight->followers);
    list_init(&flight->link);
    copy_call(flight, what, &extras);
    if (key.ptr != NULL)
        list_append(&upstream->flights, &flight->link);
    list_append(&flight->followers, &call->flight_link);
    call->flight = flight;
    begin(flight, 0, 0);
    if (hedge_ms > 0)
        timer_start(upstream->loop, &flight->hedge, hedge_ms, on_hedge);
}

void flight_join(struct call *call, const struct upstream_call *what)
{
    struct upstream *upstream = call->upstream;
    struct span key = is_shared(upstream, what) ? call->request.bytes : (struct span){NULL, 0};

    for (struct list *link = upstream->flights.next; key.ptr != NULL && link != &upstream->flights;
         link = link->next) {
        struct flight *flight = CONTAINER_OF(link, struct flight, link);

        if (!span_equal(flight->key, key))
            continue;
        upstream->counts.shared++;
        be_patient(flight, call);
        list_append(&flight->followers, &call->flight_link);
        call->flight = flight;
        return;
    }
    take_off(call, what, key);
}
