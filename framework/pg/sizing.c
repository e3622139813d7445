/* pg/sizing.c - do all sessions that the settings allow fit into their servers?
 *
 *   place 0 ──▶ place 1 ──▶ ... ──▶ the sums ──▶ done
 *     ▲                               │ some could not be reached
 *     └────────── timer ◀─────────────┘
 *
 * A place is one server of one pool, as the pool's settings name it.
 */
#include "pg/sizing.h"
#include "base/check.h"
#include "base/log.h"
#include "base/mem.h"
#include "loop/loop.h"
#include "loop/timer.h"
#include "pg/connect.h"
#include "pg/control.h"
#include "pg/hosts.h"
#include "pg/parameters.h"
#include <inttypes.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <string.h>

enum {
    AGAIN_MIN_MS =
        1000, /* until what could not be reached is asked again; twice as long each time */
    AGAIN_MAX_MS = 300000,
    NAMES_SIZE = 128
};

#define SIZING_MAGIC 0x7067737au

/* Who counts together, and against which limit. */
enum kind { OF_SERVER, OF_ROLE, OF_DATABASE, KINDS };

struct place {
    uint32_t claim;          /* index: whose */
    uint32_t host;           /* index among the claim's servers */
    bool was_tried;          /* it was asked, whatever came of that */
    struct pg_limits limits; /* the answer */
    uint64_t warned[KINDS];  /* the sum that was told in its name last; 0: none */
};

struct pg_sizing {
    uint32_t magic;            /* SIZING_MAGIC */
    struct loop *loop;         /* its loop */
    struct helpers *helpers;   /* who open sessions */
    struct pg_claim *claims;   /* claim_count of them */
    uint32_t claim_count;      /* see above */
    struct place *places;      /* place_count of them, those of other generations last */
    uint32_t place_count;      /* see above */
    uint32_t at;               /* the place that is asked */
    struct pg_connect *asking; /* on whose session; NULL: none */
    struct timer timer;        /* the next round */
    uint32_t again_ms;         /* how long it was waited for the last time; 0: not yet */
};

/* The sums */

struct sum {
    uint32_t workers;       /* of this generation */
    uint64_t sessions;      /* of the pools of one of them */
    uint32_t control;       /* what these may have beside that, to cancel and to listen */
    uint64_t beside;        /* what another generation has, control sessions included */
    uint32_t limit;         /* for all of them */
    uint64_t warned;        /* see struct place */
    char names[NAMES_SIZE]; /* of the pools */
};

static uint32_t limit_of(const struct pg_limits *limits, enum kind kind)
{
    switch (kind) {
    case OF_SERVER:
        return limits->sessions;
    case OF_ROLE:
        return limits->role_sessions;
    case OF_DATABASE:
        return limits->database_sessions;
    case KINDS:
        break;
    }
    return PG_UNLIMITED;
}

static bool is_same(const struct place *one, const struct place *other, enum kind kind)
{
    const struct pg_limits *two = &other->limits;

    if (one->limits.server[0] == '\0' || strcmp(one->limits.server, two->server) != 0)
        return false;
    if (kind == OF_ROLE)
        return strcmp(one->limits.role, two->role) == 0;
    return kind == OF_SERVER || strcmp(one->limits.database, two->database) == 0;
}

static void add_name(struct sum *sum, const char *name)
{
    size_t len = strlen(sum->names);

    (void)snprintf(sum->names + len, sizeof sum->names - len, "%s%s", len > 0 ? ", " : "", name);
}

static void add_claim(struct sum *sum, const struct pg_claim *claim)
{
    if (claim->is_beside) {
        sum->beside +=
            (uint64_t)claim->workers * (claim->options->sessions_max + PG_CONTROL_SESSIONS);
        return;
    }
    sum->workers = claim->workers;
    sum->sessions += claim->options->sessions_max;
    sum->control += PG_CONTROL_SESSIONS;
    add_name(sum, claim->name);
}

/* All places that count together with that one. False: it is not the first of them, or no pool of
 * this generation is among them. */
static bool add_up(const struct pg_sizing *sizing, const struct place *first, enum kind kind,
                   struct sum *sum)
{
    uint32_t last_claim = UINT32_MAX;

    *sum = (struct sum){.limit = PG_UNLIMITED};
    for (const struct place *place = sizing->places; place < sizing->places + sizing->place_count;
         place++) {
        if (!is_same(first, place, kind))
            continue;
        if (place < first)
            return false;
        if (limit_of(&place->limits, kind) < sum->limit)
            sum->limit = limit_of(&place->limits, kind);
        if (place->warned[kind] > sum->warned)
            sum->warned = place->warned[kind];
        if (place->claim != last_claim) /* all its sessions may be there, but not twice */
            add_claim(sum, &sizing->claims[place->claim]);
        last_claim = place->claim;
    }
    return sum->control > 0;
}

static const char *name_limit(const struct place *place, enum kind kind, char text[NAMES_SIZE])
{
    if (kind == OF_SERVER)
        return "max_connections of the server less what it reserves";
    (void)snprintf(text, NAMES_SIZE, "the limit of %s %s", kind == OF_ROLE ? "role" : "database",
                   kind == OF_ROLE ? place->limits.role : place->limits.database);
    return text;
}

/* While a reload goes on two generations live: the new one opens sessions as the old one closes
 * its own. What the next reload brings nobody knows: as much as there is now. */
static void compare(struct place *place, enum kind kind, const struct sum *sum)
{
    uint64_t at_most = sum->workers * (sum->sessions + sum->control);
    bool is_beside_more = sum->beside > at_most;
    uint64_t with_reload = at_most + (is_beside_more ? sum->beside : at_most);
    char text[NAMES_SIZE];

    if (with_reload <= sum->limit || with_reload <= sum->warned)
        return;
    place->warned[kind] = with_reload;
    log_warn("pg %s: %u workers x (%" PRIu64 " sessions + up to %u to cancel and listen) = %" PRIu64
             ", and up to %" PRIu64 " while a reload goes on%s; %s allows %u: %s",
             sum->names, sum->workers, sum->sessions, sum->control, at_most, with_reload,
             is_beside_more ? ", as it does" : "", name_limit(place, kind, text), sum->limit,
             at_most > sum->limit ? "some sessions may be refused" : "some may be refused then");
}

static void compare_all(struct pg_sizing *sizing)
{
    struct sum sum;

    for (uint32_t i = 0; i < sizing->place_count; i++) {
        for (enum kind kind = OF_SERVER; kind < KINDS; kind++) {
            if (add_up(sizing, &sizing->places[i], kind, &sum))
                compare(&sizing->places[i], kind, &sum);
        }
    }
}

/* Asking */

static void ask_next(struct pg_sizing *sizing);

/* Two texts that say the same of who logs in where. */
static bool is_like(const struct pg_options *one, const struct pg_options *other)
{
    return strcmp(one->conninfo, other->conninfo) == 0 && strcmp(one->host, other->host) == 0 &&
           one->port == other->port && strcmp(one->user, other->user) == 0 &&
           strcmp(one->dbname, other->dbname) == 0;
}

/* Also for the places of another generation that are the same: mostly all of them are. */
static void note(struct pg_sizing *sizing, const struct pg_limits *limits)
{
    const struct place *asked = &sizing->places[sizing->at];

    for (uint32_t i = sizing->at; i < sizing->place_count; i++) {
        struct place *place = &sizing->places[i];

        if (place->host == asked->host &&
            is_like(sizing->claims[place->claim].options, sizing->claims[asked->claim].options))
            place->limits = *limits;
    }
}

static void on_connected(void *data, struct pg_connect *connect, struct pg_conn *conn,
                         const char *problem)
{
    struct pg_sizing *sizing = data;

    CHECK_OBJ(sizing, SIZING_MAGIC);
    CHECK(sizing->asking == connect);
    sizing->asking = NULL;
    sizing->places[sizing->at].was_tried = true;
    if (conn != NULL)
        note(sizing, pg_connect_limits(connect));
    else
        log_debug("pg %s: a server cannot be asked how many sessions it has: %s",
                  sizing->claims[sizing->places[sizing->at].claim].name, problem);
    PQfinish(conn);
    sizing->at++;
    ask_next(sizing);
}

/* One of a generation that ends is not worth a second attempt. */
static bool is_due(const struct pg_sizing *sizing, const struct place *place)
{
    return !place->limits.is_known && !(place->was_tried && sizing->claims[place->claim].is_beside);
}

/* How many are to be asked. */
static uint32_t count_due(const struct pg_sizing *sizing)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < sizing->place_count; i++)
        count += is_due(sizing, &sizing->places[i]);
    return count;
}

static void on_timer(struct timer *timer)
{
    struct pg_sizing *sizing = CONTAINER_OF(timer, struct pg_sizing, timer);

    CHECK_OBJ(sizing, SIZING_MAGIC);
    sizing->at = 0;
    ask_next(sizing);
}

static void end_round(struct pg_sizing *sizing)
{
    uint32_t due = count_due(sizing);

    compare_all(sizing);
    log_debug("pg: %u of %u servers have said how many sessions they have",
              sizing->place_count - due, sizing->place_count);
    if (due == 0)
        return;
    sizing->again_ms = sizing->again_ms == 0                 ? AGAIN_MIN_MS
                       : sizing->again_ms < AGAIN_MAX_MS / 2 ? 2 * sizing->again_ms
                                                             : AGAIN_MAX_MS;
    timer_start(sizing->loop, &sizing->timer, sizing->again_ms, on_timer);
}

static void ask_next(struct pg_sizing *sizing)
{
    struct pg_wish wish = {.is_only = true, .asks_limits = true};

    while (sizing->at < sizing->place_count && !is_due(sizing, &sizing->places[sizing->at]))
        sizing->at++;
    if (sizing->at == sizing->place_count) {
        end_round(sizing);
        return;
    }
    wish.first = sizing->places[sizing->at].host;
    sizing->asking =
        pg_connect_start(sizing->helpers, sizing->claims[sizing->places[sizing->at].claim].options,
                         &wish, on_connected, sizing);
}

/* Life */

static uint32_t count_hosts(const struct pg_options *options)
{
    struct pg_parameters parameters;
    struct pg_hosts hosts = {.count = 0};
    char problem[INI_PROBLEM_SIZE];
    uint32_t count;
    bool can;

    pg_parameters_init(&parameters, options);
    can = pg_parameters_hosts(&parameters, &hosts, problem);
    CHECK(can); /* pg_options_check() */
    count = hosts.count;
    pg_hosts_deinit(&hosts);
    pg_parameters_deinit(&parameters);
    return count;
}

static void add_places(struct pg_sizing *sizing, bool is_beside)
{
    for (uint32_t i = 0; i < sizing->claim_count; i++) {
        const struct pg_claim *claim = &sizing->claims[i];
        uint32_t hosts;

        if (claim->is_beside != is_beside || !claim->options->is_prepared)
            continue;
        hosts = count_hosts(claim->options);
        sizing->places =
            mem_realloc(sizing->places, (sizing->place_count + hosts) * sizeof *sizing->places);
        for (uint32_t host = 0; host < hosts; host++)
            sizing->places[sizing->place_count++] = (struct place){.claim = i, .host = host};
    }
}

struct pg_sizing *pg_sizing_start(struct loop *loop, struct helpers *helpers,
                                  const struct pg_claim *claims, uint32_t count)
{
    struct pg_sizing *sizing = mem_alloc(sizeof *sizing);

    *sizing = (struct pg_sizing){
        .magic = SIZING_MAGIC, .loop = loop, .helpers = helpers, .claim_count = count};
    sizing->claims = mem_calloc(count + 1, sizeof *claims);
    for (uint32_t i = 0; i < count; i++)
        sizing->claims[i] = claims[i];
    add_places(sizing, false);
    add_places(sizing, true);
    timer_start(loop, &sizing->timer, 0, on_timer);
    return sizing;
}

void pg_sizing_destroy(struct pg_sizing *sizing)
{
    if (sizing == NULL)
        return;
    CHECK_OBJ(sizing, SIZING_MAGIC);
    timer_stop(&sizing->timer);
    pg_connect_abandon(sizing->asking);
    mem_free(sizing->claims);
    mem_free(sizing->places);
    sizing->magic = 0;
    mem_free(sizing);
}
