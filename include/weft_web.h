/* weft_web.h - what handlers of web pages need beside weft_http.h: forms, cookies, what the client
 * prefers, entity tags, conditions, ranges and dates.
 *
 *     weft_str user = weft_cookie(ctx, "user");            Cookie: user=...
 *     weft_str title = weft_form(ctx, "title");            a form that was posted
 *     return weft_reply_content(ctx, "text/css", sheet);   with ETag, 304, 206, 416
 *
 * All of it is made of calls of weft_http.h: the host knows nothing of it.
 * Threads: [loop], but where it says [any].
 * Memory:  what is handed out lives until the ctx ends.
 * Sources: RFC 9110 (negotiation 12.5, conditions 13, ranges 14, dates 5.6.7), RFC 6265 (cookies),
 *          the URL standard's application/x-www-form-urlencoded.
 *
 * Header-only; C99 or later, C++11 or later.
 */
#ifndef WEFT_WEB_H
#define WEFT_WEB_H

#include "weft.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- text ------------------------------------------------------------------------------------ */

/* The bytes from `begin` to `end`, without blanks around them. */
static inline weft_str weft_web__trimmed(const char *begin, const char *end)
{
    weft_str s;

    while (begin < end && (*begin == ' ' || *begin == '\t'))
        begin++;
    while (end > begin && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    s.ptr = begin;
    s.len = (size_t)(end - begin);
    return s;
}

static inline char weft_web__lower(char c) { return c >= 'A' && c <= 'Z' ? (char)(c | 32) : c; }

/* Are they the same but for the case of their letters? [any] */
static inline int weft_equal_nocase(weft_str a, weft_str b)
{
    size_t i;

    if ((a.ptr == NULL) != (b.ptr == NULL) || a.len != b.len)
        return 0;
    for (i = 0; i < a.len; i++)
        if (weft_web__lower(a.ptr[i]) != weft_web__lower(b.ptr[i]))
            return 0;
    return 1;
}

/* Takes the next part of `*list` up to `separator`, without blanks around it; what stands in quotes
 * separates nothing. 0: there is none. */
static inline int weft_web__part(weft_str *list, char separator, weft_str *part)
{
    const char *at = list->ptr, *end;
    int is_quoted = 0;

    if (at == NULL)
        return 0;
    end = at + list->len;
    for (; at < end && (is_quoted || *at != separator); at++) {
        if (*at == '"')
            is_quoted = !is_quoted;
        else if (*at == '\\' && is_quoted && at + 1 < end)
            at++;
    }
    *part = weft_web__trimmed(list->ptr, at);
    list->ptr = at < end ? at + 1 : NULL;
    list->len = at < end ? (size_t)(end - at) - 1 : 0;
    return 1;
}

static inline int weft_web__digit(char c)
{
    return c >= '0' && c <= '9'                 ? c - '0'
           : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10
                                                : -1;
}

/* `s` of a query or form, decoded: '+' is a blank; an escape that is none stays as it is. */
static inline weft_str weft_web__decoded(weft_ctx *ctx, weft_str s)
{
    char *text = (char *)weft_alloc(ctx, s.len + 1);
    size_t len = 0, i;

    for (i = 0; i < s.len; i++) {
        int high = -1, low = -1;
        if (s.ptr[i] == '%' && s.len - i > 2) {
            high = weft_web__digit(s.ptr[i + 1]);
            low = weft_web__digit(s.ptr[i + 2]);
        }
        if (high >= 0 && low >= 0)
            i += 2;
        text[len++] = high >= 0 && low >= 0 ? (char)(high * 16 + low)
                      : s.ptr[i] == '+'     ? ' '
                                            : s.ptr[i];
    }
    s.ptr = text;
    s.len = len;
    return s;
}

/* A whole number of digits alone, at most 18 of them; -1: it is none. */
static inline int64_t weft_web__number(weft_str s)
{
    int64_t number = 0;
    size_t i;

    if (s.len == 0 || s.len > 18)
        return -1;
    for (i = 0; i < s.len; i++) {
        if (s.ptr[i] < '0' || s.ptr[i] > '9')
            return -1;
        number = number * 10 + (s.ptr[i] - '0');
    }
    return number;
}

/* ---- queries and forms ----------------------------------------------------------------------- */

/* Goes through name=value&... . The members are not for others. */
typedef struct weft_pairs {
    weft_ctx *ctx; /* whose memory */
    weft_str rest; /* not read yet */
} weft_pairs;

/* Begins with the pairs of `text`, such as weft_query_string(ctx). [loop] */
static inline void weft_pairs_begin(weft_pairs *pairs, weft_ctx *ctx, weft_str text)
{
    pairs->ctx = ctx;
    pairs->rest = text;
}

/* The next pair, decoded; the value is empty where there is no '='. 0: there is no more, and both
 * are absent. [loop] */
static inline int weft_pairs_next(weft_pairs *pairs, weft_str *name, weft_str *value)
{
    weft_str part, none = {NULL, 0};
    const char *sign;

    *name = *value = none;
    do {
        const char *end;
        if (pairs->rest.ptr == NULL)
            return 0;
        end = (const char *)memchr(pairs->rest.ptr, '&', pairs->rest.len);
        part = pairs->rest;
        pairs->rest = none;
        if (end != NULL) {
            pairs->rest.ptr = end + 1;
            pairs->rest.len = part.len - (size_t)(end - part.ptr) - 1;
            part.len = (size_t)(end - part.ptr);
        }
    } while (part.len == 0);
    sign = (const char *)memchr(part.ptr, '=', part.len);
    *value = weft_cstr("");
    if (sign != NULL) {
        value->ptr = sign + 1;
        value->len = part.len - (size_t)(sign - part.ptr) - 1;
        part.len = (size_t)(sign - part.ptr);
    }
    *name = weft_web__decoded(pairs->ctx, part);
    *value = weft_web__decoded(pairs->ctx, *value);
    return 1;
}

/* The request's media type without its parameters, as it came; empty where it names none. [loop] */
static inline weft_str weft_media_type(weft_ctx *ctx)
{
    weft_str rest = weft_header(ctx, "Content-Type"), type;

    return weft_web__part(&rest, ';', &type) ? type : weft_cstr("");
}

/* The first field `name` of a posted application/x-www-form-urlencoded, decoded; absent where there
 * is none, or the body is no such form. For one name: each call reads the body. [loop] */
static inline weft_str weft_form(weft_ctx *ctx, const char *name)
{
    weft_str found, value, none = {NULL, 0};
    weft_pairs pairs;

    if (!weft_equal_nocase(weft_media_type(ctx), weft_cstr("application/x-www-form-urlencoded")))
        return none;
    weft_pairs_begin(&pairs, ctx, weft_body(ctx));
    while (weft_pairs_next(&pairs, &found, &value))
        if (weft_equal(found, weft_cstr(name)))
            return value;
    return none;
}

/* ---- cookies --------------------------------------------------------------------------------- */

/* Takes the next of the cookies in `*list`. Quotes hide no ';' (RFC 6265 section 4.2.1): else one
 * that opens and does not close would swallow those behind it. 0: there is none. */
static inline int weft_web__next_cookie(weft_str *list, weft_str *cookie)
{
    const char *at = list->ptr, *end;

    if (at == NULL)
        return 0;
    end = (const char *)memchr(at, ';', list->len);
    *cookie = weft_web__trimmed(at, end != NULL ? end : at + list->len);
    list->len -= end != NULL ? (size_t)(end - at) + 1 : 0;
    list->ptr = end != NULL ? end + 1 : NULL;
    return 1;
}

/* The value of the first cookie `name`, without quotes around it; absent. [loop] */
static inline weft_str weft_cookie(weft_ctx *ctx, const char *name)
{
    weft_str rest = weft_header(ctx, "Cookie"), wanted = weft_cstr(name), part, none = {NULL, 0};

    while (weft_web__next_cookie(&rest, &part)) {
        if (part.len <= wanted.len || part.ptr[wanted.len] != '=' ||
            memcmp(part.ptr, wanted.ptr, wanted.len) != 0)
            continue;
        part.ptr += wanted.len + 1;
        part.len -= wanted.len + 1;
        if (part.len > 1 && part.ptr[0] == '"' && part.ptr[part.len - 1] == '"') {
            part.ptr++;
            part.len -= 2;
        }
        return weft_dup(ctx, part);
    }
    return none;
}

/* Flags of a cookie. Without them it is HttpOnly and SameSite=Lax. */
#define WEFT_COOKIE_SECURE     1u /* over TLS only */
#define WEFT_COOKIE_SCRIPTS    2u /* scripts may read it: no HttpOnly */
#define WEFT_COOKIE_STRICT     4u /* SameSite=Strict */
#define WEFT_COOKIE_CROSS_SITE 8u /* SameSite=None, which browsers want with SECURE */

/* Of a cookie; zero is the default. */
typedef struct weft_cookie_options {
    const char *path;   /* NULL: "/" */
    const char *domain; /* NULL: this host alone */
    int64_t max_age_s;  /* 0: until the browser ends; below 0: it is deleted */
    uint32_t flags;     /* WEFT_COOKIE_... */
} weft_cookie_options;

/* May each of its bytes stand in a cookie's name (`is_name`: a token) or in its value? Browsers
 * drop what has 4 KiB or more. */
static inline int weft_web__is_cookie(weft_str s, int is_name)
{
    size_t i;

    for (i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.ptr[i];
        if (c <= ' ' || c >= 0x7f || strchr("\",;\\", c) != NULL ||
            (is_name && strchr("()/:<=>?@[]{}", c) != NULL))
            return 0;
    }
    return s.ptr != NULL && s.len < 4096 && (s.len > 0 || !is_name);
}

/* The same for an attribute of one, such as its path: no control byte, no ';'. */
static inline int weft_web__is_attribute(const char *text)
{
    for (; text != NULL && *text != '\0'; text++)
        if ((unsigned char)*text < ' ' || *text == 0x7f || *text == ';')
            return 0;
    return 1;
}

/* Has the reply set a cookie; `options` may be NULL. WEFT_E_INVALID: bytes in name, value, path or
 * domain that none can have (encode them first), 4 KiB of one, CROSS_SITE without SECURE, or a name
 * of __Host- or __Secure- with options that browsers refuse for it. [loop] */
static inline weft_status weft_set_cookie(weft_ctx *ctx, const char *name, weft_str value,
                                          const weft_cookie_options *options)
{
    static const weft_cookie_options none = {NULL, NULL, 0, 0};
    const weft_cookie_options *use = options != NULL ? options : &none;
    const char *path = use->path != NULL ? use->path : "/";
    int is_secure = (use->flags & WEFT_COOKIE_SECURE) != 0;
    int is_cross = (use->flags & WEFT_COOKIE_CROSS_SITE) != 0;
    weft_str age = weft_cstr("");

    if (!weft_web__is_cookie(weft_cstr(name), 1) || !weft_web__is_cookie(value, 0) ||
        !weft_web__is_attribute(path) || !weft_web__is_attribute(use->domain) ||
        (is_cross && !is_secure) || (strncmp(name, "__Secure-", 9) == 0 && !is_secure) ||
        (strncmp(name, "__Host-", 7) == 0 &&
         (!is_secure || use->domain != NULL || strcmp(path, "/") != 0))) {
        weft_log(ctx, WEFT_LOG_ERROR,
                 "weft_set_cookie: a name, value or option that no cookie has");
        return WEFT_E_INVALID;
    }
    if (use->max_age_s != 0)
        age = weft_fmt(ctx, "; Max-Age=%lld", use->max_age_s > 0 ? (long long)use->max_age_s : 0LL);
    return weft_set_header(
        ctx, "Set-Cookie",
        weft_fmt(ctx, "%s=%.*s; Path=%s%s%s%s%s%s; SameSite=%s", name, (int)value.len, value.ptr,
                 path, use->domain != NULL ? "; Domain=" : "",
                 use->domain != NULL ? use->domain : "", age.ptr, is_secure ? "; Secure" : "",
                 (use->flags & WEFT_COOKIE_SCRIPTS) != 0 ? "" : "; HttpOnly",
                 is_cross                                 ? "None"
                 : (use->flags & WEFT_COOKIE_STRICT) != 0 ? "Strict"
                                                          : "Lax"));
}

/* ---- what the client prefers ----------------------------------------------------------------- */

/* The weight of a part of Accept and its like, in thousandths; -1: it is no weight. */
static inline int32_t weft_web__weight(weft_str parameters)
{
    weft_str part, rest;
    int32_t weight = 0, unit = 1000;

    while (weft_web__part(&parameters, ';', &part)) {
        if (part.len < 3 || weft_web__lower(part.ptr[0]) != 'q' || part.ptr[1] != '=')
            continue;
        rest = weft_web__trimmed(part.ptr + 2, part.ptr + part.len);
        if (rest.len > 5 || (rest.ptr[0] != '0' && rest.ptr[0] != '1') ||
            (rest.len > 1 && rest.ptr[1] != '.'))
            return -1;
        for (; rest.len > 0; rest.ptr++, rest.len--) {
            if (*rest.ptr == '.')
                continue;
            if (weft_web__digit(*rest.ptr) < 0 || weft_web__digit(*rest.ptr) > 9)
                return -1;
            weight += weft_web__digit(*rest.ptr) * unit;
            unit /= 10;
        }
        return weight <= 1000 ? weight : -1;
    }
    return 1000;
}

/* How closely `range` is `offer`: 0: not at all, 1: as "*" is, ... */
static inline uint32_t weft_web__closeness(weft_str range, weft_str offer)
{
    weft_str head = offer;

    if (weft_equal_nocase(range, offer))
        return 1000;
    if (weft_equal(range, weft_cstr("*")) || weft_equal(range, weft_cstr("*/*")))
        return 1;
    if (range.len > 2 && memcmp(range.ptr + range.len - 2, "/*", 2) == 0)
        range.len--; /* "text/" */
    else if (offer.len <= range.len || offer.ptr[range.len] != '-')
        return 0; /* "en" is for "en-GB", too */
    head.len = range.len < offer.len ? range.len : offer.len;
    return weft_equal_nocase(range, head) ? 2 + (uint32_t)(range.len % 900) : 0;
}

/* The weight that the list `accepted` gives to `offer`, in thousandths; -1: it does not name it. */
static inline int32_t weft_web__accepted(weft_str accepted, weft_str offer)
{
    uint32_t closest = 0;
    int32_t weight = -1;
    weft_str part, range;

    while (weft_web__part(&accepted, ',', &part)) {
        weft_str rest = part;
        uint32_t closeness;
        int32_t of_part;
        if (!weft_web__part(&rest, ';', &range) || range.len == 0)
            continue;
        closeness = weft_web__closeness(range, offer);
        of_part = weft_web__weight(rest);
        if (closeness > closest && of_part >= 0) {
            closest = closeness;
            weight = of_part;
        }
    }
    return weight;
}

/* The index of that of the `count` offers which the client likes best by its field `header`
 * (Accept, Accept-Encoding or Accept-Language), the first of those it likes as much; -1: it accepts
 * none. All are good where it sent no such field; "identity" is unless it is refused. Answers that
 * depend on it say so: weft_set_header(ctx, "Vary", weft_cstr(header)). [loop] */
static inline int32_t weft_prefers(weft_ctx *ctx, const char *header, uint32_t count,
                                   const char *const *offers)
{
    weft_str accepted = weft_header(ctx, header);
    int32_t best = -1, weight = 0;
    uint32_t i;

    if (accepted.ptr == NULL)
        return count > 0 ? 0 : -1;
    for (i = 0; i < count; i++) {
        int32_t liked = weft_web__accepted(accepted, weft_cstr(offers[i]));
        if (liked < 0 && strcmp(offers[i], "identity") == 0 && best < 0)
            best = (int32_t)i; /* named by nobody: if there is nothing else */
        if (liked > weight) {
            best = (int32_t)i;
            weight = liked;
        }
    }
    return best;
}

/* ---- dates: seconds since 1970, UTC ---------------------------------------------------------- */

/* Days from 1970-01-01 to a day of the Gregorian calendar. */
static inline int64_t weft_web__days(int64_t year, int64_t month, int64_t day)
{
    int64_t y = month <= 2 ? year - 1 : year, era, year_of_era, day_of_year;

    era = (y >= 0 ? y : y - 399) / 400;
    year_of_era = y - era * 400;
    day_of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
    return era * 146097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year -
           719468;
}

#define WEFT_WEB__MONTHS "JanFebMarAprMayJunJulAugSepOctNovDec"

/* A date as headers have it: "Sun, 06 Nov 1994 08:49:37 GMT". Empty (not absent) below 0 and beyond
 * the year 9999. [loop] */
static inline weft_str weft_http_date(weft_ctx *ctx, int64_t time_s)
{
    int64_t days = time_s / 86400, seconds = time_s % 86400, year, month = 12;

    if (time_s < 0 || time_s > INT64_C(253402300799))
        return weft_cstr("");
    year = 1970 + days / 366;
    while (weft_web__days(year + 1, 1, 1) <= days)
        year++;
    while (weft_web__days(year, month, 1) > days)
        month--;
    return weft_fmt(
        ctx, "%.3s, %02d %.3s %04d %02d:%02d:%02d GMT", &"ThuFriSatSunMonTueWed"[days % 7 * 3],
        (int)(days - weft_web__days(year, month, 1)) + 1, &WEFT_WEB__MONTHS[(month - 1) * 3],
        (int)year, (int)(seconds / 3600), (int)(seconds / 60 % 60), (int)(seconds % 60));
}

/* Reads a date in each of the three forms of RFC 9110 section 5.6.7; -1: it is none. [any] */
static inline int64_t weft_http_time(weft_str date)
{
    char month[4] = "", text[40];
    int day, year, hour, minute, second, used = 0;
    const char *comma, *found;

    if (date.len == 0 || date.len >= sizeof text || memchr(date.ptr, '\0', date.len) != NULL)
        return -1;
    memcpy(text, date.ptr, date.len);
    text[date.len] = '\0';
    comma = strchr(text, ',');
    if (comma == NULL) { /* asctime() */
        if (sscanf(text, "%*3[A-Za-z] %3[A-Za-z] %2d %2d:%2d:%2d %4d%n", month, &day, &hour,
                   &minute, &second, &year, &used) != 6)
            return -1;
    } else if (sscanf(comma, ", %2d %3[A-Za-z] %4d %2d:%2d:%2d GMT%n", &day, month, &year, &hour,
                      &minute, &second, &used) == 6) {
        used += (int)(comma - text);
    } else if (sscanf(comma, ", %2d-%3[A-Za-z]-%2d %2d:%2d:%2d GMT%n", &day, month, &year, &hour,
                      &minute, &second, &used) == 6) {
        used += (int)(comma - text);
        year += year < 70 ? 2000 : 1900;
    } else {
        return -1;
    }
    found = strlen(month) == 3 ? strstr(WEFT_WEB__MONTHS, month) : NULL;
    if (used != (int)date.len || found == NULL || (found - WEFT_WEB__MONTHS) % 3 != 0 || day < 1 ||
        day > 31 || year < 1970 || hour < 0 || hour > 23 || minute < 0 || minute > 59 ||
        second < 0 || second > 60)
        return -1;
    return weft_web__days(year, (found - WEFT_WEB__MONTHS) / 3 + 1, day) * 86400 + hour * 3600 +
           minute * 60 + second;
}

/* ---- entity tags, conditions, ranges --------------------------------------------------------- */

/* A strong entity tag of the bytes, in its quotes: the same for the same bytes on every worker and
 * host, and no secret (FNV-1a and the length). Never absent. [loop] */
static inline weft_str weft_etag(weft_ctx *ctx, weft_str bytes)
{
    uint64_t hash = UINT64_C(14695981039346656037);
    size_t i;

    for (i = 0; i < bytes.len; i++)
        hash = (hash ^ (unsigned char)bytes.ptr[i]) * UINT64_C(1099511628211);
    return weft_fmt(ctx, "\"%llx-%llx\"", (unsigned long long)hash, (unsigned long long)bytes.len);
}

/* Does a list of If-Match or If-None-Match name `etag`? Weak tags match there only where `is_weak`.
 * */
static inline int weft_web__names(weft_str list, weft_str etag, int is_weak)
{
    weft_str part;

    if (weft_equal(list, weft_cstr("*")))
        return etag.ptr != NULL;
    if (is_weak && etag.len > 2 && memcmp(etag.ptr, "W/", 2) == 0) {
        etag.ptr += 2;
        etag.len -= 2;
    }
    while (weft_web__part(&list, ',', &part)) {
        if (is_weak && part.len > 2 && memcmp(part.ptr, "W/", 2) == 0) {
            part.ptr += 2;
            part.len -= 2;
        }
        if (part.len > 0 && part.ptr[0] == '"' && weft_equal(part, etag))
            return 1;
    }
    return 0;
}

static inline int weft_web__is_get(weft_ctx *ctx)
{
    weft_str method = weft_method(ctx);

    return weft_equal(method, weft_cstr("GET")) || weft_equal(method, weft_cstr("HEAD"));
}

/* What the request's conditions say of what it asks for, which has this entity tag (absent: none)
 * and was last modified at `modified_s` (below 0: unknown): 0: go on; 304: the client has it; 412:
 * it wants another one changed. In the order of RFC 9110 section 13.2.2. [loop] */
static inline uint32_t weft_precondition(weft_ctx *ctx, weft_str etag, int64_t modified_s)
{
    weft_str match = weft_header(ctx, "If-Match");
    weft_str none_match = weft_header(ctx, "If-None-Match");
    int64_t unmodified = weft_http_time(weft_header(ctx, "If-Unmodified-Since"));
    int64_t modified = weft_http_time(weft_header(ctx, "If-Modified-Since"));

    if (match.ptr != NULL) {
        if (!weft_web__names(match, etag, 0))
            return 412;
    } else if (unmodified >= 0 && modified_s >= 0 && modified_s > unmodified) {
        return 412;
    }
    if (none_match.ptr != NULL) {
        if (weft_web__names(none_match, etag, 1))
            return weft_web__is_get(ctx) ? 304 : 412;
    } else if (modified >= 0 && modified_s >= 0 && modified_s <= modified &&
               weft_web__is_get(ctx)) {
        return 304;
    }
    return 0;
}

/* May the range of a request be served by If-Range? */
static inline int weft_web__is_same(weft_ctx *ctx, weft_str etag, int64_t modified_s)
{
    weft_str condition = weft_header(ctx, "If-Range");

    if (condition.ptr == NULL)
        return 1;
    if (condition.len > 0 && condition.ptr[0] == '"')
        return weft_equal(condition, etag);
    return modified_s >= 0 && weft_http_time(condition) == modified_s;
}

/* Which bytes of `size` the request asks for: 200: all (also for several ranges at once, and what
 * is no range of bytes); 206: `*len` from `*first` on; 416: there are none there. `etag` and
 * `modified_s` are those of weft_precondition(). [loop] */
static inline uint32_t weft_range(weft_ctx *ctx, weft_str etag, int64_t modified_s, uint64_t size,
                                  uint64_t *first, uint64_t *len)
{
    weft_str range = weft_header(ctx, "Range"), from, to;
    const char *minus;
    int64_t begin, end;

    *first = 0;
    *len = size;
    if (range.len < 7 || memcmp(range.ptr, "bytes=", 6) != 0 ||
        !weft_web__is_same(ctx, etag, modified_s) ||
        !weft_equal(weft_method(ctx), weft_cstr("GET")))
        return 200;
    minus = (const char *)memchr(range.ptr + 6, '-', range.len - 6);
    if (minus == NULL)
        return 200;
    from = weft_web__trimmed(range.ptr + 6, minus);
    to = weft_web__trimmed(minus + 1, range.ptr + range.len);
    begin = weft_web__number(from);
    end = weft_web__number(to);
    if ((from.len > 0 && begin < 0) || (to.len > 0 && end < 0) || from.len + to.len == 0 ||
        (begin >= 0 && end >= 0 && end < begin))
        return 200;
    if (from.len == 0) { /* the last `end` bytes */
        *len = (uint64_t)end < size ? (uint64_t)end : size;
        *first = size - *len;
        return *len > 0 ? 206 : 416;
    }
    if ((uint64_t)begin >= size)
        return 416;
    *first = (uint64_t)begin;
    *len = size - *first;
    if (end >= 0 && (uint64_t)end - *first + 1 < *len)
        *len = (uint64_t)end - *first + 1;
    return 206;
}

/* Answers with bytes that are the same for everybody who asks: with ETag and Accept-Ranges, and
 * 304, 206, 412 or 416 where the request's conditions say so. The errors are weft_reply()'s. [loop]
 * */
static inline weft_status weft_reply_content(weft_ctx *ctx, const char *type, weft_str body)
{
    weft_str etag = weft_etag(ctx, body);
    uint32_t code = weft_precondition(ctx, etag, -1);
    uint64_t first, len;

    WEFT_TRY(weft_set_header(ctx, "ETag", etag));
    if (code != 0)
        return code == 412 ? weft_problem(ctx, code, NULL)
                           : weft_reply(ctx, code, NULL, weft_cstr(""));
    WEFT_TRY(weft_set_header(ctx, "Accept-Ranges", weft_cstr("bytes")));
    code = weft_range(ctx, etag, -1, body.len, &first, &len);
    if (code == 416) {
        WEFT_TRY(weft_set_header(ctx, "Content-Range",
                                 weft_fmt(ctx, "bytes */%llu", (unsigned long long)body.len)));
        return weft_problem(ctx, code, NULL);
    }
    if (code == 206) {
        WEFT_TRY(weft_set_header(ctx, "Content-Range",
                                 weft_fmt(ctx, "bytes %llu-%llu/%llu", (unsigned long long)first,
                                          (unsigned long long)(first + len - 1),
                                          (unsigned long long)body.len)));
        body.ptr += first;
        body.len = (size_t)len;
    }
    return weft_reply(ctx, code, type, body);
}

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif
