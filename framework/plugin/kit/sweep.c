/* sweep.c - a scene, played once for each way in which each of its ops can end badly.
 *
 *   as it is (each op is noted) ──▶ op 1 fails ──▶ op 1 is too slow ──▶ ... ──▶ the last one's last
 *
 * Between two turns the kit looks through the requests' scopes for ops that are new and pending, in
 * the same order each time, since nothing here is left to chance. */
#include "base/check.h"
#include "http/request.h"
#include "kit.h"
#include "net/addr.h"
#include "pg/query.h"
#include "plugin/inside.h"
#include "task/group.h"
#include "task/op.h"
#include "task/scope.h"
#include "task/tasks.h"
#include "upstream/upstream.h"
#include <stdio.h>

enum { OPS_MAX = 256, QUIET_MS_MAX = 10 * 60 * 1000 };

enum way { FAILS, IS_SLOW, IS_CANCELED, CLIENT_LEAVES, TIME_IS_OVER, WAYS };

struct kit_sweep {
    uint64_t seen[OPS_MAX];    /* handles of ops, in the order in which they were found */
    const char *what[OPS_MAX]; /* of the first play: "a pg query of GET /books/:id" */
    bool can_fail[OPS_MAX];    /* of the first play */
    uint32_t count;            /* of seen */
    bool is_over;              /* it was done: no op need be looked for */
    uint32_t target;           /* the op that is to end badly; UINT32_MAX: none */
    enum way way;              /* how */
    uint32_t scopes;           /* that lived before */
    uint16_t requests;         /* that were sent before */
    char text[512];            /* of the fault, for failures */
};

static const char *const way_texts[] = {
    [FAILS] = "fails",
    [IS_SLOW] = "is too slow",
    [IS_CANCELED] = "is canceled",
    [CLIENT_LEAVES] = "is under way as the client leaves",
    [TIME_IS_OVER] = "is under way as the request's time is over",
};

const char *kit_sweep_text(const weft_test *t)
{
    return t->sweep != NULL ? t->sweep->text : "";
}

/* What it fails with; ERR_OK: it cannot. */
static enum err failure_of(const struct op *op, enum way way, const char **reason)
{
    if (op_is_pg(op)) {
        *reason = way == FAILS ? "pg_lost" : "pg_timeout";
        return way == FAILS ? ERR_DB_DOWN : ERR_DEADLINE;
    }
    if (op_is_upstream(op)) {
        *reason = way == FAILS ? "upstream_reset" : "upstream_timeout";
        return way == FAILS ? ERR_UP_RESET : ERR_UP_TIMEOUT;
    }
    return ERR_OK;
}

/* Doing it */

static void do_it(weft_test *t, struct op *op)
{
    struct http_request *request = http_request_of(op->scope);
    weft_test_request *client = kit_client_of(t, addr_port(request->peer));
    const char *reason = NULL;
    enum err err;

    snprintf(t->sweep->text, sizeof t->sweep->text, " [op %u of the scene, %s, %s]",
             t->sweep->target + 1, t->sweep->what[t->sweep->target], way_texts[t->sweep->way]);
    switch (t->sweep->way) {
    case FAILS:
    case IS_SLOW:
        err = failure_of(op, t->sweep->way, &reason);
        CHECK(err != ERR_OK);
        op_cancel_as(op, err, reason);
        return;
    case IS_CANCELED:
        op_cancel(op);
        return;
    case CLIENT_LEAVES:
        if (client != NULL)
            kit_client_leave(client);
        return;
    case TIME_IS_OVER:
        scope_cancel(op->scope->root, SCOPE_DEADLINE);
        return;
    case WAYS:
        return;
    }
}

static bool was_seen(const struct kit_sweep *sweep, uint64_t handle)
{
    for (uint32_t i = 0; i < sweep->count; i++)
        if (sweep->seen[i] == handle)
            return true;
    return false;
}

static void note(weft_test *t, struct op *op)
{
    struct kit_sweep *sweep = t->sweep;
    const struct abi_route *route = abi_route_of(op->scope);
    uint32_t index = sweep->count++;
    const char *reason;

    sweep->seen[index] = op->handle;
    if (sweep->target == UINT32_MAX) {
        sweep->can_fail[index] = failure_of(op, FAILS, &reason) != ERR_OK;
        sweep->what[index] = arena_format(&t->arena, "a %s of %s", op->kind->name,
                                          route != NULL ? route->text : "a request")
                                 .ptr;
    } else if (sweep->target == index) {
        sweep->is_over = true;
        do_it(t, op);
    }
}

static void look_through(weft_test *t, struct scope *scope)
{
    LIST_EACH (&scope->ops, link) {
        struct op *op = CONTAINER_OF(link, struct op, _link);

        if (op->state == OP_PENDING && t->sweep->count < OPS_MAX && !was_seen(t->sweep, op->handle))
            note(t, op);
    }
    LIST_EACH (&scope->children, link)
        look_through(t, CONTAINER_OF(link, struct scope, _link));
}

void kit_sweep_look(weft_test *t)
{
    if (t->sweep == NULL || t->sweep->is_over)
        return;
    LIST_EACH (&t->tasks->scopes, link) {
        struct scope *scope = CONTAINER_OF(link, struct scope, _link);

        if (http_request_of(scope) != NULL)
            look_through(t, scope);
    }
}

/* Playing */

static bool is_quiet(weft_test *t, void *data)
{
    (void)data;
    return t->tasks->scopes_count <= t->sweep->scopes;
}

static void look_at_outcome(weft_test *t)
{
    for (uint16_t port = t->sweep->requests; port++ < t->requests_count;) {
        kit_client_wait(kit_client_of(t, port));
        kit_client_check(kit_client_of(t, port));
    }
    if (!kit_run_until(t, is_quiet, NULL, QUIET_MS_MAX))
        kit_fail(t, NULL, 0, "what was begun goes on for ever: %u ctx live that did not before",
                 t->tasks->scopes_count - t->sweep->scopes);
    kit_end_steps(t);
}

static void play(weft_test *t, weft_test_scene_fn *scene, void *data)
{
    struct kit_sweep *sweep = t->sweep;

    sweep->count = 0;
    sweep->is_over = false;
    sweep->text[0] = '\0';
    sweep->scopes = t->tasks->scopes_count;
    sweep->requests = t->requests_count;
    t->is_swept = sweep->target != UINT32_MAX;
    scene(t, data);
    look_at_outcome(t);
    t->is_swept = false;
}

uint32_t weft_test_sweep(weft_test *t, weft_test_scene_fn *scene, void *data)
{
    struct kit_sweep *sweep = arena_alloc(&t->arena, sizeof *sweep);
    uint32_t ops, plays = 1;

    if (t->http == NULL) {
        kit_fail(t, NULL, 0, "there is no plugin to sweep");
        kit_tell(t);
        return 0;
    }
    kit_settle(t);
    kit_end_steps(t);
    sweep->target = UINT32_MAX;
    t->sweep = sweep;
    play(t, scene, data);
    ops = sweep->count;
    if (ops == OPS_MAX)
        kit_fail(t, NULL, 0, "the scene starts more than %d ops: the others were not tried",
                 OPS_MAX);
    for (sweep->target = 0; sweep->target < ops; sweep->target++) {
        for (int way = FAILS; way < WAYS; way++) {
            if (way <= IS_SLOW && !sweep->can_fail[sweep->target])
                continue;
            sweep->way = (enum way)way;
            play(t, scene, data);
            plays++;
        }
    }
    t->sweep = NULL;
    kit_tell(t);
    return plays;
}
