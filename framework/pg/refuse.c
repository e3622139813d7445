/* pg/refuse.c - which statements would change a session that others share.
 *
 * The leading keyword is looked at, behind blanks, comments and empty statements, as the server's
 * own scanner would find it, and of a text with "temp" in it, or of a COPY, all words. What a
 * function does is not seen. */
#include "base/check.h"
#include "pg/pool.h"
#include <stdint.h>
#include <string.h>

/* What to say, by what the keyword does. */
static const char use_transaction[] =
    "transactions are begun and ended by weft_begin(), weft_commit() and weft_rollback(), or by "
    "weft_transact(), on a session of their own";
static const char use_one_phase[] =
    "two-phase commit (PREPARE TRANSACTION, COMMIT PREPARED, ROLLBACK PREPARED) is not supported: "
    "weft_commit() or weft_transact() commits";
static const char use_copy[] = "COPY is run by weft_copy_in() or weft_copy_out()";
static const char use_listen[] = "channels are listened to by weft_listen()";
static const char use_local[] =
    "it would change a session that others share: use SET LOCAL in a transaction, or the role's or "
    "the database's settings";
static const char use_pinned[] =
    "it needs a session of its own: run it in a transaction, by weft_transact() or weft_begin()";
static const char is_prepared[] =
    "statements are prepared by the pool itself: declare them by weft_declare()";
static const char is_temporary[] =
    "temporary objects belong to a session: make them ON COMMIT DROP in a transaction, by "
    "weft_transact() or weft_begin()";
static const char is_ours[] =
    "savepoints named weft_s... are those of nested transactions: another name, or weft_begin()";
static const char is_no_copy[] = "no COPY, which alone is possible here";
static const char is_elsewhere[] =
    "COPY from or to a file or a program of the server's, of which nothing comes here: FROM STDIN "
    "and TO STDOUT do";
static const char is_in_only[] = "COPY FROM STDIN: it is to be written to, not read";
static const char is_out_only[] = "COPY TO STDOUT: it is to be read, not written to";
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
    {SPAN("deallocate"), is_prepared, false}, {SPAN("do"), use_pinned, true},
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

static bool begins_word(char c)
{
    return ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') || c == '_' || (unsigned char)c >= 0x80;
}

/* Takes the next keyword or plain name, which is empty where there is none. */
static struct span next_word(struct span *text)
{
    struct span word;

    *text = behind_nothing(*text);
    word = (struct span){text->ptr, 0};
    while (word.len < text->len &&
           (begins_word(text->ptr[word.len]) ||
            (word.len > 0 && (text->ptr[word.len] == '$' ||
                              (text->ptr[word.len] >= '0' && text->ptr[word.len] <= '9')))))
        word.len++;
    *text = behind(*text, word.len);
    return word;
}

static bool is_word(struct span word, const char *keyword)
{
    return span_equal_nocase(word, span_of(keyword));
}

static bool is_one_of(struct span word, const char *const *keywords)
{
    while (*keywords != NULL && !is_word(word, *keywords))
        keywords++;
    return *keywords != NULL;
}

/* Skips what is between two of `quote`, of which a doubled one is none; so is one behind a
 * backslash where those escape. The doubled one is seen as the end and another beginning. */
static struct span behind_quoted(struct span text, char quote, bool has_escapes)
{
    text = behind(text, 1);
    while (text.len > 0 && text.ptr[0] != quote)
        text = behind(text, has_escapes && text.ptr[0] == '\\' && text.len > 1 ? 2 : 1);
    return text.len > 0 ? behind(text, 1) : text;
}

/* Skips $tag$...$tag$, or the dollar of a parameter. */
static struct span behind_dollar(struct span text)
{
    struct span rest = behind(text, 1), tag = {text.ptr, 1};

    while (tag.len < text.len && text.ptr[tag.len] != '$' &&
           (begins_word(text.ptr[tag.len]) ||
            (tag.len > 1 && text.ptr[tag.len] >= '0' && text.ptr[tag.len] <= '9')))
        tag.len++;
    if (tag.len == text.len || text.ptr[tag.len] != '$')
        return rest;
    tag.len++;
    for (rest = behind(text, tag.len); rest.len >= tag.len; rest = behind(rest, 1))
        if (memcmp(rest.ptr, tag.ptr, tag.len) == 0)
            return behind(rest, tag.len);
    return behind(rest, rest.len);
}

/* Takes the next word, quoted name, string, or single character of anything else; empty at the
 * end. */
static struct span next_token(struct span *text)
{
    struct span token = next_word(text);
    bool has_escapes = token.len == 1 && (token.ptr[0] | 0x20) == 'e';

    if (text->len == 0 || (token.len > 0 && !(has_escapes && text->ptr[0] == '\'')))
        return token;
    if (text->ptr[0] == '\'' || text->ptr[0] == '"')
        *text = behind_quoted(*text, text->ptr[0], has_escapes);
    else if (text->ptr[0] == '$')
        *text = behind_dollar(*text);
    else
        *text = behind(*text, 1);
    token.len = (size_t)(text->ptr - token.ptr);
    return token;
}

static bool is_temp(struct span word)
{
    return is_word(word, "temp") || is_word(word, "temporary");
}

static bool is_scope(struct span word)
{
    return is_word(word, "local") || is_word(word, "global");
}

/* Behind CREATE: [OR REPLACE] [LOCAL | GLOBAL] TEMP[ORARY]. */
static bool creates_temporary(struct span rest)
{
    struct span word = next_token(&rest);

    if (is_word(word, "or")) {
        (void)next_token(&rest);
        word = next_token(&rest);
    }
    return is_temp(is_scope(word) ? next_token(&rest) : word);
}

/* Behind the INTO of a SELECT: [LOCAL | GLOBAL] TEMP[ORARY] and a name. Without one it is itself
 * the name. */
static bool selects_into_temporary(struct span rest)
{
    static const char *const no_names[] = {"from",   "where", "group",  "having",    "window",
                                           "order",  "limit", "offset", "fetch",     "for",
                                           "except", "union", "into",   "intersect", NULL};
    struct span word = next_token(&rest), name;

    if (is_scope(word))
        return is_temp(next_token(&rest));
    name = next_token(&rest);
    return is_temp(word) && name.len > 0 && (begins_word(name.ptr[0]) || name.ptr[0] == '"') &&
           !is_one_of(name, no_names);
}

static bool names_temporary(struct span token, struct span rest)
{
    struct span point = next_token(&rest);

    return (is_word(token, "pg_temp") || span_equal(token, SPAN("\"pg_temp\""))) &&
           span_equal(point, SPAN("."));
}

/* Whatever its place: with EXPLAIN ANALYZE before it, or the INTO of a SELECT. */
static bool makes_temporary(struct span sql)
{
    struct span token = next_token(&sql), before = {sql.ptr, 0};
    bool may_create = is_word(token, "create") || is_word(token, "explain");
    bool may_select = !is_word(token, "import");

    for (; token.len > 0; token = next_token(&sql)) {
        if (names_temporary(token, sql))
            return true;
        if (may_create && is_word(token, "create") && creates_temporary(sql))
            return true;
        if (may_select && is_word(token, "into") && !is_word(before, "insert") &&
            !is_word(before, "merge") && selects_into_temporary(sql))
            return true;
        before = token;
    }
    return false;
}

/* Is "temp" in it? Looked at for each text, so by its rarest letter. */
static bool has_temp(struct span sql)
{
    static const char letters[] = {'p', 'P'};

    for (int i = 0; i < 2; i++) {
        struct span rest = sql;

        while (rest.len > 0) {
            const char *found = memchr(rest.ptr, letters[i], rest.len);

            if (found == NULL)
                break;
            if (found - sql.ptr >= 3 && span_equal_nocase((struct span){found - 3, 3}, SPAN("tem")))
                return true;
            rest = behind(rest, (size_t)(found - rest.ptr) + 1);
        }
    }
    return false;
}

/* What is behind ROLLBACK [WORK | TRANSACTION] TO; absent: it is another ROLLBACK. */
static struct span behind_to(struct span rest)
{
    struct span next = next_word(&rest);

    if (is_word(next, "work") || is_word(next, "transaction"))
        next = next_word(&rest);
    return is_word(next, "to") ? rest : (struct span){NULL, 0};
}

/* SET LOCAL, SET TRANSACTION and SET CONSTRAINTS end with the transaction; ROLLBACK TO stays in
 * it. */
static bool ends_with_transaction(struct span word, struct span rest)
{
    struct span next;

    if (is_word(word, "rollback"))
        return behind_to(rest).ptr != NULL;
    next = next_word(&rest);
    return is_word(word, "set") &&
           (is_word(next, "local") || is_word(next, "transaction") || is_word(next, "constraints"));
}

/* Behind SAVEPOINT, RELEASE or ROLLBACK: is a name among the words that pg/transaction.c gives? */
static bool names_our_savepoint(struct span rest)
{
    static const struct span ours = SPAN("weft_s");
    struct span word;

    while ((word = next_token(&rest)).len > 0) {
        if (word.ptr[0] == '"')
            word = behind(word, 1);
        if (word.len >= ours.len && span_equal_nocase((struct span){word.ptr, ours.len}, ours))
            return true;
    }
    return false;
}

static bool is_about_savepoints(struct span word)
{
    return is_word(word, "savepoint") || is_word(word, "release") || is_word(word, "rollback");
}

static bool is_two_phase(struct span word, struct span rest)
{
    struct span next = next_word(&rest);

    if (is_word(word, "prepare"))
        return is_word(next, "transaction");
    return is_word(next, "prepared") && (is_word(word, "commit") || is_word(word, "rollback"));
}

static const char *refused(struct span sql, bool in_transaction)
{
    struct span rest = sql;
    struct span word = next_word(&rest);

    if (word.len == 0 && rest.len == 0)
        return is_empty;
    if (in_transaction && is_about_savepoints(word) && names_our_savepoint(rest))
        return is_ours;
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        if (!span_equal_nocase(word, refusals[i].keyword))
            continue;
        if (in_transaction &&
            (refusals[i].is_fine_in_transaction || ends_with_transaction(word, rest)))
            return NULL;
        return is_two_phase(word, rest) ? use_one_phase : refusals[i].text;
    }
    return !in_transaction && has_temp(sql) && makes_temporary(sql) ? is_temporary : NULL;
}

/* A savepoint's name, behind the word SAVEPOINT unless that is itself the name. */
static struct span savepoint_in(struct span rest)
{
    struct span word = next_token(&rest), name = next_token(&rest);

    return is_word(word, "savepoint") && name.len > 0 ? name : word;
}

enum pg_savepoint_step pg_savepoint_step(struct span sql, struct span *name)
{
    struct span word = next_word(&sql);

    if (is_word(word, "savepoint")) {
        *name = next_token(&sql);
        return PG_SAVEPOINT_MADE;
    }
    if (is_word(word, "release")) {
        *name = savepoint_in(sql);
        return PG_SAVEPOINT_RELEASED;
    }
    if (!is_word(word, "rollback") || (sql = behind_to(sql)).ptr == NULL)
        return PG_SAVEPOINT_NONE;
    *name = savepoint_in(sql);
    return PG_SAVEPOINT_GONE_BACK_TO;
}

bool pg_begins_with(struct span sql, const char *keyword)
{
    return is_word(next_word(&sql), keyword);
}

/* The server takes either of STDIN and STDOUT for the client. */
static const char *is_refused_way(struct span way, struct span end, bool is_in)
{
    static const char *const ends[] = {"stdin", "stdout", NULL};

    if (!is_one_of(end, ends))
        return is_elsewhere;
    if (is_word(way, "from") == is_in)
        return NULL;
    return is_in ? is_out_only : is_in_only;
}

/* FROM and TO are reserved: outside of a query in parentheses, and but for s.to, the first of these
 * is what it is. Without one the server refuses it. */
const char *pg_is_refused_copy(struct span sql, bool is_in)
{
    static const char *const ways[] = {"from", "to", NULL};
    struct span token = next_token(&sql), before = {sql.ptr, 0};
    uint32_t depth = 0;

    if (!is_word(token, "copy"))
        return is_no_copy;
    for (; token.len > 0; token = next_token(&sql)) {
        depth += span_equal(token, SPAN("("));
        depth -= depth > 0 && span_equal(token, SPAN(")"));
        if (depth == 0 && is_one_of(token, ways) && !span_equal(before, SPAN(".")))
            return is_refused_way(token, next_token(&sql), is_in);
        before = token;
    }
    return NULL;
}

bool pg_is_undone_by_error(struct span sql)
{
    static const char *const keywords[] = {"select", "insert", "update", "delete", "merge",
                                           "values", "with",   "table",  NULL};
    struct span word = next_word(&sql);

    while (word.len == 0 && sql.len > 0 && sql.ptr[0] == '(') {
        sql = behind(sql, 1);
        word = next_word(&sql);
    }
    return is_one_of(word, keywords);
}

const char *pg_is_refused(struct span sql)
{
    return refused(sql, false);
}

const char *pg_is_refused_in_transaction(struct span sql)
{
    return refused(sql, true);
}
