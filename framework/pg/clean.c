/* pg/clean.c - what a statement may leave in its session, and how that is taken back.
 *
 * A transaction's own effects end with it; what outlives it would be found by whoever has the
 * session next. Only the words of a statement are looked at: what a function does inside is not
 * seen. */
#include "base/check.h"
#include "pg/connect.h"
#include "pg/private.h"

static bool is_blank(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static struct span behind(struct span text, size_t size)
{
    return (struct span){text.ptr + size, text.len - size};
}

static bool is_word(struct span word, const char *keyword)
{
    return span_equal_nocase(word, span_of(keyword));
}

static bool is_of_word(char c)
{
    return ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') || (c >= '0' && c <= '9') || c == '_';
}

/* Behind "set_config": does its last argument say true, and so ends with the transaction? */
static bool is_local(struct span rest)
{
    uint32_t depth = 0;
    size_t len = 0;

    do {
        if (len == rest.len)
            return false;
        depth += rest.ptr[len] == '(';
        depth -= depth > 0 && rest.ptr[len] == ')';
        len++;
    } while (depth > 0 || len == 0);
    if (len-- < 5)
        return false;
    while (len > 0 && is_blank(rest.ptr[len - 1]))
        len--;
    return len >= 4 && span_equal_nocase((struct span){rest.ptr + len - 4, 4}, SPAN("true"));
}

static bool touches(struct span word, struct span rest)
{
    static const char *const words[] = {
        "temp",
        "temporary",
        "pg_temp",
        "hold",
        "pg_advisory_lock",
        "pg_advisory_lock_shared",
        "pg_try_advisory_lock",
        "pg_try_advisory_lock_shared",
    };

    if (is_word(word, "set_config"))
        return !is_local(rest);
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (is_word(word, words[i]))
            return true;
    return false;
}

bool pg_touches_session(struct span sql)
{
    while (sql.len > 0) {
        size_t len = 0;

        while (len < sql.len && is_of_word(sql.ptr[len]))
            len++;
        if (len > 0 && touches((struct span){sql.ptr, len}, behind(sql, len)))
            return true;
        sql = behind(sql, len > 0 ? len : 1);
    }
    return false;
}

/* What is prepared stays: DISCARD ALL would lose that, and costs more. */
void pg_session_clean(struct pg_session *session)
{
    static const char client_check[] = PG_CLIENT_CHECK_SQL;
    static const char *const steps[] = {
        "reset all",
        client_check,
        "close all",
        "unlisten *",
        "discard temp",
        "discard sequences",
        "select pg_advisory_unlock_all()",
    };

    CHECK_OBJ(session, PG_SESSION_MAGIC);
    session->is_touched = false;
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        bool must_work = steps[i] != client_check; /* not every server has it */

        if (!pg_session_restore(session, steps[i], must_work))
            return; /* the owner hears of it */
    }
}
