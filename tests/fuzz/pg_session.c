/* Goal: whatever a server says on a session, each statement ends once; what is told of an error is
 *       one line of whole characters, bounded, and of a class that a living session may have; what
 *       is counted is what the tag says; and when the server has gone the session is lost.
 *
 * The session is the real one, on libpq, which talks to a server that is this file: it lets the
 * client in, and then says what the input has. Messages are framed as they should be, so that libpq
 * hands on what is in them; one kind is not. */
#include "base/buf.h"
#include "base/log.h"
#include "base/number.h"
#include "fuzz/fuzz.h"
#include "fuzz/input.h"
#include "pg/private.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <libpq-fe.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum {
    STATEMENTS_MAX = 4,
    MESSAGE_MAX = 2048, /* bytes of what is told of an error */
    SAID_MAX = 96 * 1024,
    TURNS_MAX = 500
};

static struct loop *loop;
static struct pg_pool pool;
static struct pg_options options;
static struct pg_session *session;
static struct pg_query queries[STATEMENTS_MAX];
static uint32_t answers[STATEMENTS_MAX]; /* how often it ended */
static bool is_sent[STATEMENTS_MAX];
static struct pg_query *asked; /* whose op is looked at */
static bool is_lost;
static int results; /* that were handed over and not cleared */

/* The op is a statement's, though no pool has made it. */
bool __wrap_op_is_pg(const struct op *op);

bool __wrap_op_is_pg(const struct op *op)
{
    return asked != NULL && op == &asked->op;
}

/* What libpq hands over is cleared by weft: counted here, since libpq itself loses what it has half
 * read where a server answers out of turn (15: rows announced, and then a Sync). */
PGresult *__real_PQgetResult(PGconn *conn);
PGresult *__wrap_PQgetResult(PGconn *conn);
void __real_PQclear(PGresult *result);
void __wrap_PQclear(PGresult *result);
__attribute__((visibility("default"))) const char *__lsan_default_suppressions(void);
__attribute__((visibility("default"))) const char *__lsan_default_options(void);

PGresult *__wrap_PQgetResult(PGconn *conn)
{
    PGresult *result = __real_PQgetResult(conn);

    results += result != NULL;
    return result;
}

void __wrap_PQclear(PGresult *result)
{
    results -= result != NULL;
    __real_PQclear(result);
}

const char *__lsan_default_suppressions(void)
{
    return "leak:libpq.so";
}

const char *__lsan_default_options(void)
{
    return "print_suppressions=0";
}

/* ---- what must hold ---- */

static bool is_utf8(struct span text)
{
    json_t *string = json_stringn(text.len > 0 ? text.ptr : "", text.len);
    bool is_fine = string != NULL;

    json_decref(string);
    return is_fine;
}

/* The beginning of `whole`: its first line, or nearly so much of it as may be. */
static void check_line(struct span line, const char *whole)
{
    size_t len = whole != NULL ? strcspn(whole, "\n") : 0;

    MUST((line.ptr == NULL) == (whole == NULL));
    MUST(line.ptr == whole && line.len <= MESSAGE_MAX);
    MUST(line.len == len || (len > MESSAGE_MAX && line.len >= MESSAGE_MAX - 3));
    MUST(!is_utf8((struct span){whole, len}) || is_utf8(line));
}

static void check_error(const PGresult *result)
{
    const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    struct span sqlstate = pg_result_sqlstate(result);
    enum err err = pg_sqlstate_error(sqlstate);
    enum pg_plan_fault fault = pg_result_plan_fault(result);

    check_line(pg_result_message(result), message != NULL ? message : PQresultErrorMessage(result));
    check_line(pg_result_context(result), PQresultErrorField(result, PG_DIAG_CONTEXT));
    MUST(err != ERR_OK && err != ERR_DB_DOWN);
    MUST((fault == PG_PLAN_FINE) ==
         !(span_equal(sqlstate, SPAN("0A000")) || span_equal(sqlstate, SPAN("26000")) ||
           span_equal(sqlstate, SPAN("42P05"))));
    MUST(fault != PG_PLAN_STALE || PQresultErrorField(result, PG_DIAG_CONTEXT) == NULL);
}

/* As many as the last word of the tag says, if that is a number. */
static void check_count(struct pg_query *query, const PGresult *result)
{
    const char *tag = PQcmdStatus((PGresult *)result), *word = strrchr(tag, ' ');
    uint64_t count;

    asked = query;
    query->op.magic = OP_MAGIC;
    query->result = (struct pg_result *)result;
    count = pg_affected(&query->op);
    MUST(pg_rows(&query->op) == (uint32_t)PQntuples(result));
    MUST(span_equal(pg_result_tag(result), span_of(tag)));
    query->result = NULL;
    asked = NULL;
    MUST(count == 0 || (word != NULL && strtoull(word + 1, NULL, 10) == count));
}

static void on_answer(struct pg_session *which, struct pg_query *query,
                      const struct pg_answer *answer)
{
    size_t place = (size_t)(query - queries);

    MUST(which == session && place < STATEMENTS_MAX && is_sent[place]);
    MUST(++answers[place] == 1);
    MUST((answer->result != NULL) == (answer->outcome == PG_ANSWERED));
    if (answer->result == NULL)
        return;
    if (pg_result_kind(answer->result) == PG_RESULT_OK)
        check_count(query, answer->result);
    else
        check_error(answer->result);
    pg_result_clear(answer->result);
}

static void on_notify(struct pg_session *which, struct span channel, struct span payload)
{
    MUST(which == session && channel.ptr != NULL && payload.ptr != NULL);
    MUST(channel.ptr[channel.len] == '\0' && payload.ptr[payload.len] == '\0');
}

static void on_room(struct pg_session *which)
{
    MUST(which == session);
}

static void on_lost(struct pg_session *which, const char *reason)
{
    MUST(which == session && !is_lost);
    MUST(reason != NULL && strlen(reason) < PG_PROBLEM_SIZE && strchr(reason, '\n') == NULL);
    is_lost = true;
    pg_session_destroy(which);
}

static uint32_t on_idle(struct pg_session *which)
{
    MUST(which == session);
    return 0;
}

static const struct pg_session_owner owner = {.on_answer = on_answer,
                                              .on_notify = on_notify,
                                              .on_room = on_room,
                                              .on_lost = on_lost,
                                              .on_idle = on_idle};

/* ---- what the server says ---- */

static void say(struct buf *out, char type, struct span body)
{
    uint32_t len = (uint32_t)body.len + 4;
    char head[5] = {type, (char)(len >> 24), (char)(len >> 16), (char)(len >> 8), (char)len};

    buf_append(out, (struct span){head, sizeof head});
    buf_append(out, body);
}

/* Text up to its NUL, perhaps many times. */
static void take_text(struct input *input, struct buf *body)
{
    struct span text = take(input, take_byte(input) % 64);
    int times = 1 + take_byte(input);

    text.len = strnlen(text.ptr, text.len);
    while (times-- > 0)
        buf_append(body, text);
    buf_append(body, (struct span){"", 1});
}

/* Of an error, or a notice. */
static void take_fields(struct input *input, struct buf *body)
{
    static const char codes[] = "VCMWRDHSFLPpqstcdn";
    static const char *const known[] = {"ERROR", "FATAL", "NOTICE", "57014",
                                        "0A000", "26000", "42P05",  "RevalidateCachedQuery",
                                        "23505", "25P02"};

    for (int i = take_byte(input) % 8; i > 0; i--) {
        char code = codes[take_byte(input) % (sizeof codes - 1)];
        uint8_t how = take_byte(input);

        buf_append(body, (struct span){&code, 1});
        if (how < sizeof known / sizeof known[0])
            buf_append(body, (struct span){known[how], strlen(known[how]) + 1});
        else
            take_text(input, body);
    }
    buf_append(body, (struct span){"", 1});
}

static void say_next(struct input *input, struct buf *out)
{
    static const char types[] = "12nCZEENAITDStK3scGHWd";
    uint8_t how = take_byte(input);
    char type = types[how % (sizeof types - 1)];
    struct buf body = {0};

    if (how >= 250) {
        buf_append(out, take(input, take_byte(input))); /* as no server would */
        return;
    }
    if (how >= 200)
        buf_append(&body, take(input, take_byte(input)));
    else if (type == 'E' || type == 'N')
        take_fields(input, &body);
    else if (type == 'C')
        take_text(input, &body);
    else if (type == 'Z')
        buf_append(&body, (struct span){&"ITE"[take_byte(input) % 3], 1});
    else if (type == 'A' || type == 'S') {
        if (type == 'A')
            buf_append(&body, SPAN("\0\0\0\1"));
        take_text(input, &body);
        take_text(input, &body);
    } else if (type == 'T')
        buf_append(&body, SPAN("\0\1a\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0"));
    else if (type == 'D') {
        struct span value = take(input, take_byte(input) % 100);
        char head[] = {0, 1, 0, 0, 0, (char)value.len};

        buf_append(&body, (struct span){head, sizeof head});
        buf_append(&body, value);
    }
    say(out, type, buf_span(&body));
    buf_release(&body);
}

/* ---- the connection ---- */

static char conninfo[160];

/* No other process has its name. */
static int listen_here(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int len = snprintf(address.sun_path + 1, sizeof address.sun_path - 1,
                       "weft-fuzz-%ld/.s.PGSQL.5432", (long)getpid());

    (void)snprintf(conninfo, sizeof conninfo,
                   "host=@weft-fuzz-%ld port=5432 user=fuzz dbname=fuzz sslmode=disable "
                   "gssencmode=disable client_encoding=UTF8",
                   (long)getpid());
    MUST(bind(fd, (struct sockaddr *)&address,
              (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)len)) == 0);
    MUST(listen(fd, 8) == 0);
    return fd;
}

static PGconn *connect_to(int listener, int *server)
{
    static const char greeting[] = "R\0\0\0\x08\0\0\0\0"
                                   "S\0\0\0\x19"
                                   "client_encoding\0UTF8\0"
                                   "K\0\0\0\x0c\0\0\0\x01\0\0\0\x02"
                                   "Z\0\0\0\x05I";
    PGconn *conn = PQconnectStart(conninfo);
    PostgresPollingStatusType status = PGRES_POLLING_WRITING;

    MUST(conn != NULL && PQstatus(conn) != CONNECTION_BAD);
    for (int i = 0; i < 3 && status == PGRES_POLLING_WRITING; i++)
        status = PQconnectPoll(conn);
    *server = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    MUST(*server >= 0);
    MUST(send(*server, greeting, sizeof greeting - 1, MSG_NOSIGNAL) > 0);
    for (int i = 0; i < 10 && status != PGRES_POLLING_OK; i++)
        status = PQconnectPoll(conn);
    MUST(status == PGRES_POLLING_OK);
    return conn;
}

static void turn(int times)
{
    for (int i = 0; i < times && !is_lost; i++)
        loop_turn(loop, 0);
}

static void run_statements(uint8_t how)
{
    uint32_t count = how % (STATEMENTS_MAX + 1);

    memset(queries, 0, sizeof queries);
    memset(answers, 0, sizeof answers);
    memset(is_sent, 0, sizeof is_sent);
    for (uint32_t i = 0; i < count; i++) {
        queries[i] = (struct pg_query){.pool = &pool, .sql = SPAN("select 1")};
        is_sent[i] = true; /* the session is new, and has room */
        MUST(pg_session_run(session, &queries[i], (how & 64) != 0));
    }
}

/* In two pieces; what does not fit is not said. */
static void send_all(int server, struct span text, size_t place)
{
    size_t first = text.len > 0 ? place * 16 % text.len : 0;

    if (first > 0)
        (void)!send(server, text.ptr, first, MSG_NOSIGNAL);
    turn(3);
    if (!is_lost && text.len > first)
        (void)!send(server, text.ptr + first, text.len - first, MSG_NOSIGNAL);
    turn(5);
}

static void set_up(void)
{
    log_setup(STDERR_FILENO, LOG_ERROR, false);
    loop = loop_create(NULL);
    options = (struct pg_options){.is_prepared = true};
    pool = (struct pg_pool){.magic = PG_POOL_MAGIC, .loop = loop, .options = &options};
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int listener = -1;
    struct input input = {data, size};
    uint8_t how = take_byte(&input), place = take_byte(&input);
    const struct pg_session_options session_options = {.result_max = 64 * 1024,
                                                       .depth_max = STATEMENTS_MAX,
                                                       .is_direct = true,
                                                       .is_prepared = (how & 128) != 0};
    struct buf said = {0};
    int server;

    if (listener < 0) {
        set_up();
        listener = listen_here();
    }
    is_lost = false;
    session =
        pg_session_create(loop, connect_to(listener, &server), &session_options, &owner, NULL);
    run_statements(how);
    while (input.left > 0 && said.len < SAID_MAX)
        say_next(&input, &said);
    send_all(server, buf_span(&said), place);
    close(server);
    for (int i = 0; i < TURNS_MAX && !is_lost; i++)
        loop_turn(loop, 10);
    MUST(is_lost && results == 0);
    for (int i = 0; i < STATEMENTS_MAX; i++)
        MUST(answers[i] == is_sent[i]);
    buf_release(&said);
    return 0;
}
