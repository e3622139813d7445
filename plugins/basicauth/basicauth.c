/* basicauth - a name and a password before anything is served (RFC 7617). Over TLS only: it is no
 * secret on the way.
 *
 *     [plugin.auth]
 *     path = basicauth.so
 *     mount = /admin              what it is for; everything where it is left out
 *     users = /etc/weft/users     lines of NAME:HASH, as `htpasswd -B` or crypt(3) make them
 *     realm = Administration
 *
 * Hashes of passwords are slow for a good reason: they are made on the host's helper threads, and
 * once a worker has found a password good it knows it again by a keyed hash, until a reload.
 */
#include "../common/siphash.h"
#include "weft.h"
#include "weft_web.h"

#include <crypt.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

enum { CREDENTIALS_MAX = 1024, LINE_MAX_BYTES = 1024 };

struct user {
    char *name;    /* of the file */
    char *hash;    /* the same */
    uint64_t good; /* of the password that was right; 0: none yet */
};

static struct user *users;
static size_t users_count;
static uint64_t key[2];
static weft_str challenge;
static int64_t order;

/* ---- the file ---- */

static weft_status refuse(const char *file, unsigned line, const char *what)
{
    weft_log(NULL, WEFT_LOG_ERROR, "users = %s, line %u: %s", file, line, what);
    return WEFT_E_INVALID;
}

/* Is there a hash that crypt(3) can make again? */
static int is_hash(const char *hash)
{
    struct crypt_data *data = calloc(1, sizeof *data);
    const char *made = data != NULL ? crypt_rn("", hash, data, sizeof *data) : NULL;
    int is_one = made != NULL && made[0] != '*' && strlen(made) == strlen(hash);

    free(data);
    return is_one;
}

static void forget_users(void *self)
{
    (void)self;
    for (size_t i = 0; i < users_count; i++) {
        free(users[i].name);
        free(users[i].hash);
    }
    free(users);
    users = NULL;
    users_count = 0;
}

static weft_status add_user(const char *file, unsigned line, char *text)
{
    char *colon = strchr(text, ':');
    struct user *grown;

    if (colon == NULL || colon == text)
        return refuse(file, line, "expected NAME:HASH");
    *colon = '\0';
    colon[1 + strcspn(colon + 1, ":")] = '\0'; /* what follows is a comment of htpasswd's */
    if (!is_hash(colon + 1))
        return refuse(file, line, "the hash is none that crypt(3) knows here");
    grown = realloc(users, (users_count + 1) * sizeof *users);
    if (grown == NULL)
        return WEFT_E_UNSUPPORTED;
    users = grown;
    users[users_count] = (struct user){strdup(text), strdup(colon + 1), 0};
    users_count++;
    return WEFT_OK;
}

static weft_status read_lines(FILE *from, const char *file)
{
    char text[LINE_MAX_BYTES];
    weft_status status = WEFT_OK;

    for (unsigned line = 1; status == WEFT_OK && fgets(text, sizeof text, from) != NULL; line++) {
        size_t len = strcspn(text, "\r\n");
        if (text[len] == '\0' && !feof(from))
            return refuse(file, line, "the line is too long");
        text[len] = '\0';
        if (len > 0 && text[0] != '#')
            status = add_user(file, line, text);
    }
    return status;
}

static weft_status read_users(const char *file)
{
    FILE *from = fopen(file, "re");
    weft_status status;

    if (from == NULL) {
        weft_log(NULL, WEFT_LOG_ERROR, "users = %s: %s", file, strerror(errno));
        return WEFT_E_INVALID;
    }
    status = read_lines(from, file);
    fclose(from);
    if (status == WEFT_OK && users_count == 0)
        status = refuse(file, 1, "there is no user in it");
    if (status != WEFT_OK)
        forget_users(NULL);
    return status;
}

/* ---- a request ---- */

static int digit(char c)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c != '\0' ? strchr(digits, c) : NULL;

    return at != NULL ? (int)(at - digits) : -1;
}

/* What base64 stands for, with a NUL behind it; absent: it is none. */
static weft_str decode(weft_ctx *ctx, weft_str s)
{
    weft_str made = {NULL, 0};
    uint32_t bits = 0, count = 0;
    char *text;

    while (s.len > 0 && s.ptr[s.len - 1] == '=')
        s.len--;
    if (s.len > CREDENTIALS_MAX || s.len % 4 == 1)
        return made;
    text = weft_alloc(ctx, s.len + 1);
    for (size_t i = 0; i < s.len; i++) {
        int value = digit(s.ptr[i]);
        if (value < 0)
            return made;
        bits = bits << 6 | (uint32_t)value;
        count += 6;
        if (count >= 8) {
            count -= 8;
            text[made.len++] = (char)(bits >> count);
        }
    }
    made.ptr = text;
    return made;
}

/* What is run elsewhere: it blocks for as long as a hash takes. */
struct check {
    struct crypt_data data;
    const char *hash, *password;
    int is_right;
};

static weft_status hash_it(void *data)
{
    struct check *check = data;
    const char *made = crypt_rn(check->password, check->hash, &check->data, sizeof check->data);
    unsigned char difference = 0;
    size_t len = strlen(check->hash);

    if (made == NULL || strlen(made) != len)
        return WEFT_OK;
    for (size_t i = 0; i < len; i++)
        difference |= (unsigned char)(made[i] ^ check->hash[i]);
    check->is_right = difference == 0;
    return WEFT_OK;
}

/* An unknown name takes as long as a known one: who tries learns nothing from the time. */
static weft_status verify(weft_ctx *ctx, struct user *user, const char *password, int *is_right)
{
    uint64_t seen = siphash(key, password, strlen(password)) | 1;
    struct check *check;

    *is_right = user != NULL && user->good == seen;
    if (*is_right)
        return WEFT_OK;
    check = weft_alloc(ctx, sizeof *check);
    check->hash = user != NULL ? user->hash : users[0].hash;
    check->password = password;
    WEFT_TRY(weft_await(weft_offload(ctx, hash_it, check)));
    *is_right = user != NULL && check->is_right;
    if (*is_right)
        user->good = seen;
    return WEFT_OK;
}

static struct user *find(const char *name)
{
    for (size_t i = 0; i < users_count; i++) {
        if (strcmp(users[i].name, name) == 0)
            return &users[i];
    }
    return NULL;
}

/* "name:password"; absent: the request has none. */
static weft_str credentials_of(weft_ctx *ctx)
{
    weft_str field = weft_header(ctx, "Authorization"), scheme = {field.ptr, 6};
    weft_str none = {NULL, 0};

    if (field.len < 6 || !weft_equal_nocase(scheme, weft_cstr("Basic ")))
        return none;
    for (field.ptr += 6, field.len -= 6; field.len > 0 && *field.ptr == ' '; field.ptr++)
        field.len--;
    return decode(ctx, field);
}

static weft_status before(weft_ctx *ctx, void *self)
{
    weft_str pair = credentials_of(ctx);
    char *colon = pair.ptr != NULL ? memchr(pair.ptr, ':', pair.len) : NULL;
    int is_right = 0;

    (void)self;
    if (colon != NULL && strlen(pair.ptr) == pair.len) {
        *colon = '\0';
        WEFT_TRY(verify(ctx, find(pair.ptr), colon + 1, &is_right));
    }
    if (is_right)
        return WEFT_OK;
    WEFT_TRY(weft_set_header(ctx, "WWW-Authenticate", challenge));
    return weft_problem(ctx, 401, NULL);
}

/* ---- at init ---- */

static weft_status init(weft_host *host, void **self)
{
    weft_filter_options options = {sizeof options, 0, NULL, before, NULL, NULL};
    static char text[256];
    weft_str file, realm;

    (void)self;
    WEFT_TRY(weft_setting(host, "users", NULL, &file));
    WEFT_TRY(weft_setting(host, "realm", "weft", &realm));
    WEFT_TRY(weft_setting_int(host, "order", INT32_MIN, INT32_MAX, -50, &order));
    if (strpbrk(realm.ptr, "\"\\\r\n") != NULL || realm.len > 200) {
        weft_log(NULL, WEFT_LOG_ERROR, "realm = %s: expected a text without quotes", realm.ptr);
        return WEFT_E_INVALID;
    }
    snprintf(text, sizeof text, "Basic realm=\"%s\", charset=\"UTF-8\"", realm.ptr);
    challenge = weft_cstr(text);
    if (getrandom(key, sizeof key, 0) != sizeof key)
        return WEFT_E_UNSUPPORTED;
    WEFT_TRY(read_users(file.ptr));
    options.order = (int32_t)order;
    return weft_filter(host, &options);
}

WEFT_PLUGIN("basicauth", "1.0", init, NULL, forget_users);
