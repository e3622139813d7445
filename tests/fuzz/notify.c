/* Goal: whatever is notified, in whatever order the server says it, agrees, refuses and goes
 *       away, each listener hears what was sent to its channel since the server agreed: in order,
 *       once, as it was sent; where it misses some it is told so, and only there; the commands
 *       that are sent name the channel that was asked for, and when all have left nothing is
 *       kept.
 *
 * The listener is the real one, on a session that is this file: a list of commands under way. */
#include "base/log.h"
#include "base/mem.h"
#include "fuzz/fuzz.h"
#include "fuzz/input.h"
#include "pg/listen.h"
#include "pg/private.h"
#include "task/scope.h"
#include "task/tasks.h"

#include <libpq-fe.h>
#include <string.h>
#include <unistd.h>

enum {
    EARS_MAX = 5,
    QUEUE_MAX = 3,
    COMMANDS_MAX = 8,
    SAID_MAX = 200,
    NAME_SIZE = PG_CHANNEL_MAX + 4 /* a bit more than there may be */
};

/* Somebody who listens. */
struct ear {
    struct scope *scope; /* its own; NULL: a free place */
    struct op *op;
    struct op *pull; /* pending; NULL: none */
    char name[NAME_SIZE];
    bool is_on;    /* the server has agreed */
    bool may_miss; /* there was a reason for it */
    bool has_gap;  /* it was told that it missed some */
    uint32_t next; /* of what was said: all before it was heard, or was not for it */
};

/* What was notified. */
struct said {
    char name[NAME_SIZE];
    char *bytes; /* of just that size; begins with its place in the list */
    size_t len;
};

/* What the server was told. */
struct command {
    struct pg_query *query;
    bool is_listen;
    char name[NAME_SIZE];
};

static struct loop *loop;
static struct tasks *tasks;
static struct pg_options options;
static char pool_name[] = "fuzzed";
static struct pg_pool pool;
static struct ear ears[EARS_MAX];
static struct said said[SAID_MAX];
static uint32_t said_count;
static struct command commands[COMMANDS_MAX]; /* on their way, the oldest first */
static uint32_t commands_count;
static bool is_open, is_ended;

/* In the place of the control session. */
void __wrap_pg_control_open(struct pg_control *control);
bool __wrap_pg_session_run(struct pg_session *session, struct pg_query *query, bool is_guarded);
void __wrap_pg_session_end(struct pg_session *session, const char *reason);

void __wrap_pg_control_open(struct pg_control *control)
{
    MUST(control == &pool.control);
}

static bool is_wanted(const char *name)
{
    for (int i = 0; i < EARS_MAX; i++) {
        if (ears[i].scope != NULL && strcmp(ears[i].name, name) == 0)
            return true;
    }
    return false;
}

/* The command is its verb and one name within quotes. */
bool __wrap_pg_session_run(struct pg_session *session, struct pg_query *query, bool is_guarded)
{
    bool is_listen = strncmp(query->sql.ptr, "listen \"", 8) == 0;
    const char *at = query->sql.ptr + (is_listen ? 8 : 10);
    struct command *command = &commands[commands_count];
    size_t len = 0;

    MUST(session == NULL && !is_guarded && is_open && commands_count < COMMANDS_MAX);
    MUST(is_listen || strncmp(query->sql.ptr, "unlisten \"", 10) == 0);
    for (; *at != '"' || at[1] == '"'; at++) {
        MUST(*at != '\0' && len < PG_CHANNEL_MAX);
        at += *at == '"';
        command->name[len++] = *at;
    }
    command->name[len] = '\0';
    MUST(len > 0 && at[1] == '\0' && at + 1 == query->sql.ptr + query->sql.len);
    MUST(is_wanted(command->name) == is_listen);
    command->query = query;
    command->is_listen = is_listen;
    commands_count++;
    return true;
}

void __wrap_pg_session_end(struct pg_session *session, const char *reason)
{
    MUST(session == NULL && reason != NULL && is_open);
    is_ended = true;
}

/* A name as libpq would hand it over. */
static void take_name(struct input *input, char name[NAME_SIZE])
{
    struct span bytes = take(input, take_byte(input) % NAME_SIZE);

    memcpy(name, bytes.ptr, bytes.len);
    name[bytes.len] = '\0';
}

/* ---- what is heard ---- */

static bool is_for(const struct ear *ear, uint32_t place)
{
    return said[place].len <= PG_PAYLOAD_MAX && strcmp(said[place].name, ear->name) == 0;
}

static uint32_t count_waiting(const struct ear *ear)
{
    uint32_t count = 0;

    for (uint32_t i = ear->next; i < said_count; i++)
        count += is_for(ear, i);
    return count;
}

static void check_pulled(struct ear *ear)
{
    struct span piece = ear->pull->piece;
    uint16_t place;

    MUST(ear->pull->status == ERR_OK);
    ear->pull = NULL;
    if (piece.ptr == NULL) {
        MUST(ear->may_miss);
        ear->may_miss = false;
        ear->has_gap = true;
        return;
    }
    MUST(piece.len >= sizeof place && piece.ptr[piece.len] == '\0');
    memcpy(&place, piece.ptr, sizeof place);
    MUST(place < said_count && place >= ear->next && is_for(ear, place));
    MUST(piece.len == said[place].len && memcmp(piece.ptr, said[place].bytes, piece.len) == 0);
    for (uint32_t i = ear->next; i < place; i++)
        MUST(ear->has_gap || !is_for(ear, i));
    ear->has_gap = false;
    ear->next = place + 1u;
}

static void let_go(struct ear *ear)
{
    struct scope *scope = ear->scope;

    ear->scope = NULL; /* before what is told to the server */
    ear->pull = NULL;
    scope_finish(scope, SCOPE_REPLIED);
    for (int i = 0; i < 3; i++)
        loop_turn(loop, 0);
}

/* What has changed for them by what was just done. */
static void look(void)
{
    for (struct ear *ear = ears; ear < ears + EARS_MAX; ear++) {
        if (ear->scope == NULL)
            continue;
        if (!ear->is_on && ear->op->state != OP_PENDING) {
            ear->is_on = ear->op->status == ERR_OK;
            ear->next = said_count;
            if (!ear->is_on)
                let_go(ear);
        }
        if (ear->scope != NULL && ear->pull != NULL && ear->pull->state != OP_PENDING)
            check_pulled(ear);
    }
}

/* ---- what happens ---- */

static void come(struct ear *ear, struct input *input)
{
    size_t len;

    if (ear->scope != NULL)
        return;
    *ear = (struct ear){.scope = scope_create(tasks, NULL, NULL, 0)};
    take_name(input, ear->name);
    len = strlen(ear->name);
    ear->op = pg_listen(ear->scope, &pool, ear->name);
    MUST((len == 0 || len > PG_CHANNEL_MAX) ==
         (ear->op->state != OP_PENDING && ear->op->status == ERR_INVALID));
}

static void pull(struct ear *ear)
{
    struct op *op;

    if (ear->scope == NULL)
        return;
    op = pg_listen_next(ear->op);
    if (!ear->is_on || ear->pull != NULL)
        MUST(op->state != OP_PENDING && op->status == ERR_STATE);
    else
        ear->pull = op;
}

/* To the channel of this one, or to any other. */
static void hear(const struct ear *ear, struct input *input)
{
    struct said *new = &said[said_count];
    uint8_t size = take_byte(input);
    struct span bytes;
    uint16_t place = (uint16_t)said_count;

    if (said_count == SAID_MAX || !is_open)
        return;
    if (ear != NULL && ear->scope != NULL)
        memcpy(new->name, ear->name, sizeof new->name);
    else
        take_name(input, new->name);
    bytes = take(input, size % 32);
    new->len = size >= 254 ? PG_PAYLOAD_MAX + (size == 255) : sizeof place + bytes.len;
    new->bytes = mem_calloc(1, new->len);
    memcpy(new->bytes, &place, sizeof place);
    memcpy(new->bytes + sizeof place, bytes.ptr, bytes.len);
    said_count++;
    for (struct ear *other = ears; other < ears + EARS_MAX; other++) {
        if (strcmp(other->name, new->name) == 0)
            other->may_miss |= new->len > PG_PAYLOAD_MAX || count_waiting(other) > QUEUE_MAX;
    }
    pg_listener_heard(&pool.listener, span_of(new->name), (struct span){new->bytes, new->len});
}

static void answer(enum pg_outcome outcome, bool is_fine)
{
    struct command first = commands[0];
    struct pg_answer answer = {.outcome = outcome};

    if (outcome == PG_ANSWERED)
        answer.result = PQmakeEmptyPGresult(NULL, is_fine ? PGRES_COMMAND_OK : PGRES_FATAL_ERROR);
    for (struct ear *ear = ears; ear < ears + EARS_MAX; ear++) {
        if (is_fine && first.is_listen && ear->is_on && strcmp(ear->name, first.name) == 0)
            ear->may_miss = true; /* since it was lost */
    }
    memmove(commands, commands + 1, --commands_count * sizeof commands[0]);
    pg_listener_answered(&pool.listener, first.query, &answer);
}

static void lose(void)
{
    is_ended = false;
    while (commands_count > 0)
        answer(PG_LOST, false);
    pg_listener_lost(&pool.listener, "it is fuzzed");
    is_open = false;
}

static void begin(void)
{
    is_open = true;
    pg_listener_opened(&pool.listener);
}

static void step(struct input *input)
{
    uint8_t what = take_byte(input);
    struct ear *ear = &ears[what / 16 % EARS_MAX];

    switch (what % 16) {
    case 0:
    case 1:
        come(ear, input);
        break;
    case 2:
        if (ear->scope != NULL)
            let_go(ear);
        break;
    case 3:
        hear(NULL, input);
        break;
    case 4:
        if (is_open)
            lose();
        break;
    case 5:
        if (ear->pull != NULL)
            op_cancel(ear->pull);
        ear->pull = NULL;
        break;
    case 6:
    case 7:
    case 8:
    case 9:
        if (!is_open)
            begin();
        else if (commands_count > 0)
            answer(PG_ANSWERED, what < 240);
        break;
    case 10:
    case 11:
    case 12:
        hear(ear, input);
        break;
    default:
        pull(ear);
    }
    if (is_ended)
        lose();
    look();
}

/* Each has now heard all; no more of it was kept than may be. */
static void drain(struct ear *ear)
{
    uint32_t count = 0;

    while (ear->is_on && ear->pull == NULL) {
        uint32_t next = ear->next;

        pull(ear);
        look();
        count += ear->next != next;
    }
    MUST(count <= QUEUE_MAX);
    MUST(!ear->is_on || count_waiting(ear) == 0);
}

static void end(void)
{
    for (struct ear *ear = ears; ear < ears + EARS_MAX; ear++) {
        if (ear->scope != NULL)
            drain(ear);
        if (ear->scope != NULL)
            let_go(ear);
    }
    while (commands_count > 0)
        answer(PG_ANSWERED, true);
    MUST(!pg_listener_is_wanted(&pool.listener));
    pg_listener_deinit(&pool.listener);
    while (said_count > 0)
        mem_free(said[--said_count].bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {data, size};

    if (loop == NULL) {
        log_setup(STDERR_FILENO, LOG_ERROR, false);
        loop = loop_create(NULL);
        tasks = tasks_create(loop, NULL, NULL);
    }
    options = (struct pg_options){
        .is_prepared = true, .notify_queue = QUEUE_MAX, .queue_timeout_ms = 24 * 3600 * 1000};
    pool = (struct pg_pool){
        .magic = PG_POOL_MAGIC, .loop = loop, .options = &options, .name = pool_name};
    memset(ears, 0, sizeof ears);
    is_open = is_ended = false;
    pg_listener_init(&pool.listener, &pool);
    while (input.left > 0)
        step(&input);
    end();
    return 0;
}
