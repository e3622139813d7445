/* pg/refuse.c - which statements would change a session that others share.
 *
 * Only the leading keyword is looked at, behind blanks, comments and empty statements, as the
 * server's own scanner would find it. What a function does is not seen. */
#include "base/check.h"
#include "pg/pool.h"
#include <stdint.h>

/* What to say, by what the keyword does. */
static const char use_transaction[] =
    "transactions are begun and ended by the pool's own calls, on "
    "a session of their own";
static const char use_copy[] = "COPY has calls of its own";
static const char use_listen[] = "a shared session cannot listen";
static const char use_local[] =
    "it would change a session that others share: use SET LOCAL in a transaction, or the role's or "
    "the database's settings";
static const char use_pinned[] = "it needs a session of its own: run it in a transaction";
static const char is_prepared[] = "statements are prepared by the pool itself";
static const char is_temporary[] =
    "temporary objects belong to a session: make them ON COMMIT DROP in a transaction";
static const char is_empty[] = "there is no statement in it";

/* Keywords, and whether a transaction may use them nevertheless. */
static const struct {
    struct span keyword;
    const char *text;
    bool is_fine_in_transaction;
} refusals[] = {
    {SPAN("begin"), use_transaction, false},  {SPAN("start"), use_transaction, false},
    {SPAN("commit"), use_transaction, false}, {SPAN("end"), use_transaction, false},
    {SPAN("abort"), use_transaction, false},  {SPAN("rollback"), use_transaction, false},
    {SPAN("savepoint"), use_pinned, true},    {SPAN("release"), use_pinned, true},
    {SPAN("lock"), use_pinned, true},         {SPAN("declare"), use_pinned, true},
    {SPAN("fetch"), use_pinned, true},        {SPAN("move"), use_pinned, true},
    {SPAN("close"), use_pinned, true},        {SPAN("set"), use_local, false},
    {SPAN("reset"), use_local, false},        {SPAN("discard"), use_local, false},
    {SPAN("load"), use_local, false},         {SPAN("listen"), use_listen, false},
    {SPAN("unlisten"), use_listen, false},    {SPAN("copy"), use_copy, false},
    {SPAN("prepare"), is_prepared, false},    {SPAN("execute"), is_prepared, false},
    {SPAN("deallocate"), is_prepared, false},
};

static bool is_blank(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool starts_with(struct span text, const char *two)
{
    return text.len >= 2 && text.ptr[0] == two[0] && text.ptr[1] == two[1];
}

static struct span behind(struct span text, size_t size)
{
    return (struct span){text.ptr + size, text.len - size};
}

/* They nest. One that does not end swallows the rest, which is for the server to refuse. */
static struct span behind_comment(struct span text)
{
    uint32_t depth = 0;

    do {
        if (starts_with(text, "/*")) {
            depth++;
            text = behind(text, 2);
        } else if (starts_with(text, "*/")) {
            depth--;
            text = behind(text, 2);
        } else {
            text = behind(text, 1);
        }
    } while (depth > 0 && text.len > 0);
    return text;
}

/* Skips what the server's scanner takes for nothing, and empty statements. */
static struct span behind_nothing(struct span text)
{
    while (text.len > 0) {
        if (is_blank(text.ptr[0]) || text.ptr[0] == ';') {
            text = behind(text, 1);
        } else if (starts_with(text, "--")) {
            while (text.len > 0 && text.ptr[0] != '\n' && text.ptr[0] != '\r')
                text = behind(text, 1);
        } else if (starts_with(text, "/*")) {
            text = behind_comment(text);
        } else {
            break;
        }
    }
    return text;
}

/* Takes the next keyword, which is empty where there is none. */
static struct span next_word(struct span *text)
{
    struct span word;

    *text = behind_nothing(*text);
    word = (struct span){text->ptr, 0};
    while (word.len < text->len &&
           (((text->ptr[word.len] | 0x20) >= 'a' && (text->ptr[word.len] | 0x20) <= 'z') ||
            text->ptr[word.len] == '_'))
        word.len++;
    *text = behind(*text, word.len);
    return word;
}

static bool is_word(struct span word, const char *keyword)
{
    return span_equal_nocase(word, span_of(keyword));
}

/* CREATE [LOCAL | GLOBAL] TEMP[ORARY] and CREATE OR REPLACE TEMP. */
static bool makes_temporary(struct span rest)
{
    struct span word = next_word(&rest);

    if (is_word(word, "local") || is_word(word, "global"))
        word = next_word(&rest);
    if (is_word(word, "or")) {
        (void)next_word(&rest);
        word = next_word(&rest);
    }
    return is_word(word, "temp") || is_word(word, "temporary");
}

/* SET LOCAL, SET TRANSACTION and SET CONSTRAINTS end with the transaction; ROLLBACK TO stays in
 * it. */
static bool ends_with_transaction(struct span word, struct span rest)
{
    struct span next = next_word(&rest);

    if (is_word(word, "set"))
        return is_word(next, "local") || is_word(next, "transaction") ||
               is_word(next, "constraints");
    if (!is_word(word, "rollback"))
        return false;
    if (is_word(next, "work") || is_word(next, "transaction"))
        next = next_word(&rest);
    return is_word(next, "to");
}

static const char *refused(struct span sql, bool in_transaction)
{
    struct span rest = sql;
    struct span word = next_word(&rest);

    if (word.len == 0 && rest.len == 0)
        return is_empty;
    if (is_word(word, "create"))
        return !in_transaction && makes_temporary(rest) ? is_temporary : NULL;
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        if (!span_equal_nocase(word, refusals[i].keyword))
            continue;
        if (in_transaction &&
            (refusals[i].is_fine_in_transaction || ends_with_transaction(word, rest)))
            return NULL;
        return refusals[i].text;
    }
    return NULL;
}

bool pg_is_copy(struct span sql)
{
    return is_word(next_word(&sql), "copy");
}

bool pg_is_undone_by_error(struct span sql)
{
    static const char *const keywords[] = {"select", "insert", "update", "delete",
                                           "merge",  "values", "with",   "table"};
    struct span word = next_word(&sql);

    while (word.len == 0 && sql.len > 0 && sql.ptr[0] == '(') {
        sql = behind(sql, 1);
        word = next_word(&sql);
    }
    for (size_t i = 0; i < sizeof keywords / sizeof keywords[0]; i++)
        if (is_word(word, keywords[i]))
            return true;
    return false;
}

const char *pg_is_refused(struct span sql)
{
    return refused(sql, false);
}

const char *pg_is_refused_in_transaction(struct span sql)
{
    return refused(sql, true);
}
