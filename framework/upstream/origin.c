/* upstream/origin.c - the connections of an upstream to all of its addresses, and the line before
 * them.
 *
 * A loan:  LINE ──▶ DIALING (one connection on its way, or two) ──▶ told
 *            │         ▲──┘ refused: another address
 *            └─────────┴──▶ told, with a connection that came free
 *
 * A connection that is opened for somebody who got another one meanwhile, or gave up, goes on: it
 * serves whoever waits longest by then, or is kept.
 *
 * Nobody is in line while there is a place, and nobody waits while a connection is idle (but for
 * one that wants a fresh connection or another address, for which one is on its way). Where every
 * place is taken, an idle connection to an address that was not chosen gives its place up.
 *
 * Before the first address is known, all loans are in line.
 */
#include "upstream/origin.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include <stdio.h>

/* An address that has not answered by then is not waited for alone (RFC 8305 section 5). */
enum { STAGGER_MS = 250 };

/* Connections */

/* In the list of its state, those used last first. */
static void put(struct origin_conn *conn)
{
    struct origin *origin = conn->origin;
    bool is_idle = conn->state == CONN_IDLE;

    list_remove(&conn->link);
    list_prepend(is_idle ? &conn->target->idle : &origin->_conns[conn->state], &conn->link);
    if (!is_idle)
        return;
    origin->_counts->idle++;
    conn->target->idle_count++;
}

/* Before it changes its state, or goes. */
static inline void unput(struct origin_conn *conn)
{
    if (conn->state != CONN_IDLE)
        return;
    CHECK(conn->origin->_counts->idle > 0);
    CHECK(conn->target->idle_count > 0);
    conn->origin->_counts->idle--;
    conn->target->idle_count--;
}

static bool begin_call(const struct origin_conn *conn)
{
    struct health *health = &conn->target->health;

    return health->state != HEALTH_GOOD && health_begin(health, loop_now_ms(conn->origin->_loop));
}

/* What was to try an ejected address told nothing. */
static void end_trial(struct origin_conn *conn)
{
    if (conn->is_trial)
        health_untried(&conn->target->health, loop_now_ms(conn->origin->_loop));
    conn->is_trial = false;
}

static void lend(struct origin_conn *conn)
{
    unput(conn);
    conn_lend(conn);
    put(conn);
    conn->is_trial |= begin_call(conn);
    if (conn->uses > 1)
        conn->origin->_counts->reused++;
}

/* Lets go of all that `conn` holds, whatever its state, its place too. */
static void release(struct origin_conn *conn)
{
    struct origin *origin = conn->origin;
    struct target *target = conn->target;

    CHECK(origin->_places > 0);
    CHECK(target->places > 0);
    unput(conn);
    end_trial(conn);
    if (conn->state != CONN_OPENING) {
        CHECK(origin->_counts->connections > 0);
        origin->_counts->connections--;
    }
    list_remove(&conn->link);
    conn_close(conn);
    origin->_places--;
    target->places--;
    targets_forget(target);
}

/* An idle connection gives its place up: of the fullest address the one used longest ago. */
static void evict(struct origin *origin)
{
    struct target *fullest = origin->_targets.at[0];

    for (uint32_t i = 1; i < origin->_targets.count; i++)
        if (origin->_targets.at[i]->idle_count > fullest->idle_count)
            fullest = origin->_targets.at[i];
    CHECK(fullest->idle_count > 0);
    release(CONTAINER_OF(list_last(&fullest->idle), struct origin_conn, link));
}

/* Loans */

static void on_resolving_too_long(struct timer *timer);

static void enter_line(struct origin *origin, struct origin_loan *loan, bool is_first)
{
    const struct names *names = &origin->_names;

    origin->_counts->waiting++;
    if (is_first)
        list_prepend(&origin->_line, &loan->_link);
    else
        list_append(&origin->_line, &loan->_link);
    if (origin->_targets.count == 0 && !timer_is_on(&origin->_resolving))
        timer_start(origin->_loop, &origin->_resolving,
                    names_are_answered(names) ? 0 : origin->_options->resolve_timeout_ms,
                    on_resolving_too_long);
}

static void leave_line(struct origin *origin, struct origin_loan *loan)
{
    CHECK(origin->_counts->waiting > 0);
    list_remove(&loan->_link);
    origin->_counts->waiting--;
    if (list_is_empty(&origin->_line))
        timer_stop(&origin->_resolving);
}

/* Where `conn` stands among those that are opened for `loan`. */
static struct origin_conn **slot_of(struct origin_loan *loan, const struct origin_conn *conn)
{
    for (uint32_t i = 0; i < ORIGIN_DIALS_MAX; i++)
        if (loan->_conns[i] == conn)
            return &loan->_conns[i];
    return NULL;
}

static bool is_waiting(const struct origin_loan *loan)
{
    return loan->_link.next != NULL && !list_is_empty(&loan->_link);
}

static bool is_dialing(const struct origin_loan *loan)
{
    for (uint32_t i = 0; i < ORIGIN_DIALS_MAX; i++)
        if (loan->_conns[i] != NULL)
            return true;
    return false;
}

/* Takes `loan` out of wherever it waits; what is being opened for it is now for anybody. */
static void settle(struct origin *origin, struct origin_loan *loan)
{
    timer_stop(&loan->_stagger);
    if (!is_dialing(loan)) {
        leave_line(origin, loan);
        return;
    }
    list_remove(&loan->_link);
    for (uint32_t i = 0; i < ORIGIN_DIALS_MAX; i++) {
        if (loan->_conns[i] != NULL)
            loan->_conns[i]->loan = NULL;
        loan->_conns[i] = NULL;
    }
}

/* To where a new connection for `loan` may go; NULL: nowhere. */
static struct target *choose(struct origin *origin, const struct origin_loan *loan, bool must_avoid)
{
    const struct target_wish wish = {
        .now_ms = loop_now_ms(origin->_loop),
        .places_max = origin->_options->connections_per_address_max,
        .may_open =
            origin->_places < origin->_options->connections_max || origin->_counts->idle > 0,
        .avoid = loan->_tried,
        .avoid_count = loan->_tried_count,
        .must_avoid = must_avoid,
    };

    return targets_pick(&origin->_targets, &wish);
}

static void on_stagger(struct timer *timer);

/* Opens a connection to `target` for `loan`, which is not in line. */
static void open_conn(struct origin *origin, struct target *target, struct origin_loan *loan)
{
    struct origin_conn **slot = slot_of(loan, NULL);
    struct origin_conn *conn;

    CHECK(slot != NULL);
    if (origin->_places == origin->_options->connections_max)
        evict(origin);
    CHECK(origin->_places < origin->_options->connections_max);
    CHECK(!target->is_gone);
    if (!is_waiting(loan))
        list_append(&origin->_dialing, &loan->_link);
    origin->_places++;
    target->places++;
    conn = conn_open(&origin->_conns_shared, target);
    conn->origin = origin;
    conn->loan = loan;
    conn->is_trial = begin_call(conn);
    *slot = conn;
    put(conn);
    if (loan->_tried_count < ORIGIN_TRIES_MAX)
        loan->_tried[loan->_tried_count++] = target->id;
    if (origin->_targets.count > 1)
        timer_start(origin->_loop, &loan->_stagger, STAGGER_MS, on_stagger);
}

/* One more address for `loan`, where there is one that it has not tried. */
static bool try_another(struct origin *origin, struct origin_loan *loan)
{
    struct target *target = NULL;

    if (loan->_tried_count < ORIGIN_TRIES_MAX && slot_of(loan, NULL) != NULL)
        target = choose(origin, loan, true);
    if (target != NULL)
        open_conn(origin, target, loan);
    return target != NULL;
}

/* Places came free: they go to those who wait longest. */
static void serve_line(struct origin *origin)
{
    struct list *first;

    while ((first = list_first(&origin->_line)) != NULL) {
        struct origin_loan *loan = CONTAINER_OF(first, struct origin_loan, _link);
        struct target *target = choose(origin, loan, false);

        if (target == NULL)
            return;
        leave_line(origin, loan);
        open_conn(origin, target, loan);
    }
}

/* Ends `conn` and gives its place away. */
static void discard(struct origin_conn *conn)
{
    struct origin *origin = conn->origin;

    release(conn);
    serve_line(origin);
}

/* Who waits longest and would take a connection that is not new? Those for whom is being dialed
 * came before those in line. */
static struct origin_loan *next_borrower(struct origin *origin)
{
    struct list *first = list_first(&origin->_line);

    LIST_EACH (&origin->_dialing, link) {
        struct origin_loan *loan = CONTAINER_OF(link, struct origin_loan, _link);

        if (!loan->_is_fresh)
            return loan;
    }
    return first != NULL ? CONTAINER_OF(first, struct origin_loan, _link) : NULL;
}

/* A connection is free: for `loan`, or to be kept. Ends with a callback. */
static void hand_on(struct origin_conn *conn, struct origin_loan *loan, uint32_t idle_ms)
{
    if (loan == NULL) {
        end_trial(conn);
        conn_keep(conn, idle_ms);
        put(conn);
        return;
    }
    settle(conn->origin, loan);
    lend(conn);
    loan->_fn(loan, NULL, conn);
}

/* Names */

static void on_gone(struct target *target, void *data)
{
    struct origin *origin = data;
    struct list *first;

    log_info("upstream %s: address %s is gone, %u connections in use are let finish", origin->_name,
             target->text, target->places - target->idle_count);
    check_destroy(target->check);
    target->check = NULL;
    target->places++; /* so that it stays until we are done with it */
    while ((first = list_first(&target->idle)) != NULL)
        release(CONTAINER_OF(first, struct origin_conn, link));
    target->places--;
    targets_forget(target);
}

/* Tells all who wait in line that there is no address; what they do then may bring new ones. */
static void fail_line(struct origin *origin, enum err err)
{
    struct conn_failure failure = {.what = UPSTREAM_RESOLVE};
    struct list failed;
    struct list *first;

    if (err == ERR_TIMED_OUT) {
        failure.what = UPSTREAM_RESOLVE_TIMEOUT;
        snprintf(failure.problem, sizeof failure.problem, "no address in %u ms",
                 origin->_options->resolve_timeout_ms);
    } else if (origin->_targets.has_left_out) {
        failure.what = UPSTREAM_PRIVATE;
        snprintf(failure.problem, sizeof failure.problem,
                 "its name has private addresses only, and private = off");
    } else {
        snprintf(failure.problem, sizeof failure.problem, "its name has no address: %s",
                 err_text(err));
    }
    list_init(&failed);
    list_move_all(&failed, &origin->_line);
    timer_stop(&origin->_resolving);
    while ((first = list_first(&failed)) != NULL) {
        struct origin_loan *loan = CONTAINER_OF(first, struct origin_loan, _link);

        list_remove(first);
        origin->_counts->waiting--;
        loan->_fn(loan, &failure, NULL);
    }
}

/* Health */

/* `why` is for people. */
static void note_failure(struct origin *origin, struct target *target, const char *why)
{
    uint64_t now_ms = loop_now_ms(origin->_loop);
    bool has_other = targets_have_other(&origin->_targets, target, now_ms);

    if (!health_failed(&target->health, origin->_options, now_ms, has_other))
        return;
    origin->_counts->ejections++;
    log_warn("upstream %s: address %s is out for %llu ms after %u failures in a row, the last: %s",
             origin->_name, target->text, (unsigned long long)(target->health.until_ms - now_ms),
             target->health.failures, why);
}

void origin_recovered(struct origin_conn *conn)
{
    struct origin *origin = conn->origin;
    struct health *health = &conn->target->health;

    conn->is_trial = false;
    if (health->state != HEALTH_GOOD)
        log_info("upstream %s: address %s is back", origin->_name, conn->target->text);
    health_succeeded(health, origin->_options, loop_now_ms(origin->_loop));
}

void origin_failed(struct origin_conn *conn, const char *why)
{
    conn->is_trial = false;
    note_failure(conn->origin, conn->target, why);
}

void origin_rest(struct origin_conn *conn, uint64_t ms)
{
    health_rest(&conn->target->health, loop_now_ms(conn->origin->_loop), ms);
}

bool origin_has_other(const struct origin_conn *conn)
{
    const struct origin *origin = conn->origin;

    return targets_have_other(&origin->_targets, conn->target, loop_now_ms(origin->_loop));
}

/* What the loop calls. */

static void on_checked(struct target *target, bool is_good, const char *why, void *data)
{
    struct origin *origin = data;

    origin->_counts->checks++;
    origin->_counts->checks_failed += is_good ? 0 : 1;
    if (!health_checked(&target->health, origin->_options, is_good))
        return;
    if (is_good)
        log_info("upstream %s: address %s is up again", origin->_name, target->text);
    else
        log_warn("upstream %s: address %s is down: %s", origin->_name, target->text, why);
}

static void start_checks(struct origin *origin)
{
    if (origin->_options->check_path[0] == '\0')
        return;
    for (uint32_t i = 0; i < origin->_targets.count; i++)
        if (origin->_targets.at[i]->check == NULL)
            origin->_targets.at[i]->check = check_create(&origin->_checks, origin->_targets.at[i]);
}

static void on_answered(struct names *names, void *data)
{
    struct origin *origin = data;

    targets_update(&origin->_targets, names, on_gone, origin);
    start_checks(origin);
    if (origin->_targets.count > 0)
        serve_line(origin);
    else if (names_are_answered(names))
        fail_line(origin, names_error(names));
}

static void on_resolving_too_long(struct timer *timer)
{
    struct origin *origin = CONTAINER_OF(timer, struct origin, _resolving);

    fail_line(origin,
              names_are_answered(&origin->_names) ? names_error(&origin->_names) : ERR_TIMED_OUT);
}

static void on_stagger(struct timer *timer)
{
    struct origin_loan *loan = CONTAINER_OF(timer, struct origin_loan, _stagger);

    CHECK(is_dialing(loan));
    (void)try_another(loan->_origin, loan);
}

static void on_open(struct origin_conn *conn)
{
    struct origin *origin = conn->origin;
    struct origin_loan *loan = conn->loan != NULL ? conn->loan : next_borrower(origin);

    CHECK(conn->state == CONN_OPENING);
    origin->_counts->connects++;
    origin->_counts->connections++;
    if (loan == NULL && conn->target->is_gone)
        discard(conn);
    else
        hand_on(conn, loan, origin->_options->idle_timeout_ms);
}

static void on_failed(struct origin_conn *conn, const struct conn_failure *failure)
{
    struct origin *origin = conn->origin;
    struct origin_loan *loan = conn->loan;

    CHECK(conn->state == CONN_OPENING);
    if (loan != NULL) {
        struct origin_conn **slot = slot_of(loan, conn);

        CHECK(slot != NULL);
        *slot = NULL;
    }
    conn->is_trial = false;
    note_failure(origin, conn->target, failure->problem);
    release(conn);
    if (loan == NULL) {
        serve_line(origin);
        return;
    }
    if (is_dialing(loan) || try_another(origin, loan)) {
        serve_line(origin);
        return;
    }
    timer_stop(&loan->_stagger);
    list_remove(&loan->_link);
    serve_line(origin); /* the place is another one's: this loan has seen what there is */
    loan->_fn(loan, failure, NULL);
}

static const struct conn_handler conn_handler = {
    .on_open = on_open,
    .on_failed = on_failed,
    .on_spoiled = discard,
};

/* Life and verbs */

void origin_init(struct origin *origin, const struct origin_setup *setup)
{
    CHECK(setup->exchanges->options->connections_max > 0);
    *origin = (struct origin){
        ._loop = setup->exchanges->loop,
        ._name = setup->name,
        ._options = setup->exchanges->options,
        ._counts = setup->counts,
        ._conns_shared = {.tls = setup->tls,
                          .tls_name = setup->tls_name,
                          .buffers = setup->buffers,
                          .exchanges = setup->exchanges,
                          .handler = &conn_handler},
    };
    for (int state = 0; state < CONN_STATE_COUNT; state++)
        list_init(&origin->_conns[state]);
    list_init(&origin->_dialing);
    list_init(&origin->_line);
    names_init(&origin->_names, origin->_loop, setup->resolver, setup->places, setup->place_count);
    targets_init(&origin->_targets, clock_monotonic_us());
    origin->_targets.no_private = !origin->_options->allows_private;
    targets_update(&origin->_targets, &origin->_names, on_gone, origin);
    origin->_checks = (struct check_shared){
        .name = setup->name,
        .tls = setup->tls,
        .tls_name = setup->tls_name,
        .host = setup->host,
        .buffers = setup->buffers,
        .exchanges = setup->exchanges,
        .fn = on_checked,
        .data = origin,
    };
}

static void release_all(struct list *conns)
{
    LIST_EACH (conns, link)
        release(CONTAINER_OF(link, struct origin_conn, link));
}

void origin_deinit(struct origin *origin)
{
    if (origin->_loop == NULL)
        return;
    CHECK(list_is_empty(&origin->_line));
    CHECK(list_is_empty(&origin->_dialing));
    CHECK(list_is_empty(&origin->_conns[CONN_LENT]));
    names_deinit(&origin->_names);
    release_all(&origin->_conns[CONN_OPENING]);
    for (uint32_t i = 0; i < origin->_targets.count; i++) {
        check_destroy(origin->_targets.at[i]->check);
        release_all(&origin->_targets.at[i]->idle);
    }
    CHECK(origin->_places == 0);
    targets_deinit(&origin->_targets);
    origin->_loop = NULL;
}

void origin_start(struct origin *origin)
{
    if (names_are_started(&origin->_names))
        return;
    names_start(&origin->_names, on_answered, origin);
    start_checks(origin);
}

/* Where a call goes at best; without any wish where there is one address only. */
static struct target *choose_kept(struct origin *origin, uint32_t avoid_id)
{
    const struct target_wish wish = {
        .now_ms = loop_now_ms(origin->_loop),
        .places_max = origin->_options->connections_per_address_max,
        .may_be_idle = true,
        .may_open = origin->_places < origin->_options->connections_max,
        .avoid = &avoid_id,
        .avoid_count = avoid_id != 0 ? 1 : 0,
    };

    return targets_pick(&origin->_targets, &wish);
}

struct origin_conn *origin_take(struct origin *origin, uint32_t avoid_id)
{
    while (origin->_counts->idle > 0) {
        struct target *target =
            origin->_targets.count == 1 ? origin->_targets.at[0] : choose_kept(origin, avoid_id);
        struct list *first = target != NULL ? list_first(&target->idle) : NULL;
        struct origin_conn *conn;

        if (first == NULL)
            return NULL;
        conn = CONTAINER_OF(first, struct origin_conn, link);
        if (!conn_is_too_old(conn, loop_now_ms(origin->_loop)) && conn_is_quiet(conn)) {
            lend(conn);
            return conn;
        }
        discard(conn);
    }
    return NULL;
}

bool origin_try(struct origin *origin, struct origin_loan *loan, origin_loan_fn *fn,
                uint32_t avoid_id)
{
    struct target *target;

    CHECK(!is_waiting(loan));
    *loan =
        (struct origin_loan){._fn = fn, ._origin = origin, ._tried = {avoid_id}, ._tried_count = 1};
    target = list_is_empty(&origin->_line) ? choose(origin, loan, false) : NULL;
    if (target != NULL)
        open_conn(origin, target, loan);
    return target != NULL;
}

bool origin_wait(struct origin *origin, struct origin_loan *loan, origin_loan_fn *fn)
{
    struct target *target;

    CHECK(!is_waiting(loan));
    origin_start(origin);
    *loan = (struct origin_loan){._fn = fn, ._origin = origin};
    target = list_is_empty(&origin->_line) ? choose(origin, loan, false) : NULL;
    if (target != NULL) {
        open_conn(origin, target, loan);
        return true;
    }
    if (origin->_counts->waiting >= origin->_options->waiting_max)
        return false;
    enter_line(origin, loan, false);
    return true;
}

void origin_dial_again(struct origin_conn *conn, struct origin_loan *loan, origin_loan_fn *fn)
{
    struct origin *origin = conn->origin;
    uint32_t failed_id = conn->target->id;
    struct target *target;

    CHECK(conn->state == CONN_LENT);
    CHECK(!is_waiting(loan));
    *loan = (struct origin_loan){
        ._fn = fn, ._origin = origin, ._is_fresh = true, ._tried = {failed_id}, ._tried_count = 1};
    release(conn);
    target = choose(origin, loan, false);
    if (target != NULL) {
        open_conn(origin, target, loan);
        list_remove(&loan->_link);
        list_prepend(&origin->_dialing, &loan->_link);
        return;
    }
    enter_line(origin, loan, true); /* the address is gone, and the others have no place */
}

void origin_withdraw(struct origin_loan *loan)
{
    if (is_waiting(loan))
        settle(loan->_origin, loan);
}

bool origin_is_in_line(const struct origin_loan *loan)
{
    return is_waiting(loan) && !is_dialing(loan);
}

bool origin_is_nowhere(const struct origin *origin)
{
    return origin->_targets.count == 0;
}

void origin_keep(struct origin_conn *conn, uint32_t idle_ms_max)
{
    struct origin *origin = conn->origin;
    uint32_t idle_ms = origin->_options->idle_timeout_ms;
    struct origin_loan *loan;

    CHECK(conn->state == CONN_LENT);
    if (idle_ms > idle_ms_max)
        idle_ms = idle_ms_max;
    loan = next_borrower(origin);
    if (idle_ms == 0 || conn->target->is_gone ||
        conn_is_too_old(conn, loop_now_ms(origin->_loop)) || (loan != NULL && !conn_is_quiet(conn)))
        discard(conn);
    else
        hand_on(conn, loan, idle_ms);
}

void origin_drop(struct origin_conn *conn)
{
    CHECK(conn->state == CONN_LENT);
    discard(conn);
}
