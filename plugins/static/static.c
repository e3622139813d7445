/* static - serves the files of a folder, and nothing above it.
 *
 *     [plugin.files]
 *     path = static.so
 *     mount = /files
 *     root = /srv/www            the folder, an absolute path; required
 *     index = index.html         what a path with a slash at its end stands for; empty: nothing
 *     precompressed = br zstd gzip   neighbours that are sent to clients that take them: a.css.br,
 *                                .zst, .gz, unless they are older than a.css; empty: none
 *     cache_control =            what Cache-Control says, such as max-age=3600; empty: nothing
 *     charset = utf-8            of text; empty: nothing is said
 *     types =                    further types by ending: md text/markdown, wasm application/wasm
 *     default_type = application/octet-stream
 *     hidden = no                yes: names that begin with a dot are served, too (.well-known is)
 *     symlinks = yes             no: none is followed; with yes those that stay in the folder are
 *
 * GET and HEAD, conditions, a range; no listings. ETag is time and size of the file, and weak while
 * it is so fresh that it may change within the clock's step. Nothing leads out of the folder, in
 * the kernel's own judgement (openat2: Linux 5.6 or later), whatever is renamed meanwhile. A folder
 * that takes the place of the root, or a symlink in the way to it that is turned, is served after a
 * reload.
 *
 * What the kernel has in memory is served at once; what it has to look for on a disk is looked up,
 * and its beginning read, on a helper thread. The rest of a large file is read ahead by the kernel,
 * and where it does not keep up, sendfile() waits for the disk: folders on slow disks want a host
 * of their own, or more workers.
 */
#include "weft.h"
#include "weft_web.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum {
    ENCODINGS_MAX = 3,
    TYPES_MAX = 64,
    WARM_BYTES = 262144, /* read on a helper thread: as much as is sent in a turn */
    FRESH_S = 2          /* a file's time may not tell its changes apart yet */
};

struct encoding {
    const char *name;   /* "gzip" */
    const char *ending; /* ".gz" */
};

struct type {
    const char *ending; /* "css" */
    const char *name;   /* "text/css" */
};

struct site {
    int root;                       /* the folder */
    uint64_t resolve;               /* RESOLVE_...: how paths are followed */
    uint64_t resolve_fast;          /* the same, in memory only; 0: this kernel cannot */
    weft_str index, cache_control;  /* as set */
    weft_str charset, default_type; /* as set */
    uint32_t shows_hidden;          /* as set */
    struct encoding encodings[ENCODINGS_MAX + 1]; /* as set; behind them, no name */
    uint32_t encoding_count;                      /* of them */
    struct type types[TYPES_MAX];                 /* as set */
    uint32_t type_count;                          /* of them */
    char *types_text;                             /* what they point into */
};

/* A file that is looked for. In the ctx's memory: a helper thread may have it. */
struct entry {
    const struct site *site;
    const char *path;  /* below the root */
    int fd;            /* -1: none, or given away */
    int error;         /* then: why */
    uint64_t warm_at;  /* what is to be read of it */
    struct stat about; /* of it */
};

static const struct encoding encodings[ENCODINGS_MAX] = {
    {"br", ".br"}, {"zstd", ".zst"}, {"gzip", ".gz"}};

/* By their endings, in order. */
static const struct type types[] = {
    {"7z", "application/x-7z-compressed"},
    {"aac", "audio/aac"},
    {"avif", "image/avif"},
    {"bin", "application/octet-stream"},
    {"bmp", "image/bmp"},
    {"bz2", "application/x-bzip2"},
    {"css", "text/css"},
    {"csv", "text/csv"},
    {"gif", "image/gif"},
    {"gz", "application/gzip"},
    {"htm", "text/html"},
    {"html", "text/html"},
    {"ico", "image/vnd.microsoft.icon"},
    {"ics", "text/calendar"},
    {"jpeg", "image/jpeg"},
    {"jpg", "image/jpeg"},
    {"js", "text/javascript"},
    {"json", "application/json"},
    {"map", "application/json"},
    {"md", "text/markdown"},
    {"mjs", "text/javascript"},
    {"mp3", "audio/mpeg"},
    {"mp4", "video/mp4"},
    {"mpeg", "video/mpeg"},
    {"oga", "audio/ogg"},
    {"ogg", "audio/ogg"},
    {"ogv", "video/ogg"},
    {"otf", "font/otf"},
    {"pdf", "application/pdf"},
    {"png", "image/png"},
    {"svg", "image/svg+xml"},
    {"tar", "application/x-tar"},
    {"tif", "image/tiff"},
    {"tiff", "image/tiff"},
    {"ttf", "font/ttf"},
    {"txt", "text/plain"},
    {"wasm", "application/wasm"},
    {"wav", "audio/wav"},
    {"weba", "audio/webm"},
    {"webm", "video/webm"},
    {"webmanifest", "application/manifest+json"},
    {"webp", "image/webp"},
    {"woff", "font/woff"},
    {"woff2", "font/woff2"},
    {"xml", "application/xml"},
    {"zip", "application/zip"},
    {"zst", "application/zstd"},
};

/* ---- looking up ---- */

static void close_entry(struct entry *entry)
{
    if (entry->fd >= 0)
        (void)close(entry->fd);
    entry->fd = -1;
}

static void on_end(void *data)
{
    close_entry(data);
}

/* Opens it. False: entry->error says why. A FIFO without a writer does not hold us up; what is no
 * file is told by entry->about. */
static int open_entry(struct entry *entry, uint64_t resolve)
{
    struct open_how how = {.flags = O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK,
                           .resolve = resolve};

    do
        entry->fd = (int)syscall(SYS_openat2, entry->site->root, entry->path, &how, sizeof how);
    while (entry->fd < 0 && errno == EINTR);
    if (entry->fd >= 0 && fstat(entry->fd, &entry->about) == 0)
        return 1;
    entry->error = errno;
    close_entry(entry);
    return 0;
}

/* Has the kernel read what is to be sent first. */
static void warm(const struct entry *entry)
{
    char bytes[16384];
    uint64_t end = entry->warm_at + WARM_BYTES;

    (void)posix_fadvise(entry->fd, (off_t)entry->warm_at, 4 * (off_t)WARM_BYTES,
                        POSIX_FADV_WILLNEED);
    for (uint64_t at = entry->warm_at; at < end; at += sizeof bytes) {
        if (pread(entry->fd, bytes, sizeof bytes, (off_t)at) < (ssize_t)sizeof bytes)
            return; /* its end; what is wrong with it is found again */
    }
}

/* On a helper thread. */
static weft_status open_slowly(void *data)
{
    struct entry *entry = data;

    /* A path that is changed under the kernel's hands is tried again. */
    for (int tries = 0; tries < 4; tries++) {
        if (open_entry(entry, entry->site->resolve) || entry->error != EAGAIN)
            break;
    }
    if (entry->fd >= 0 && S_ISREG(entry->about.st_mode))
        warm(entry);
    return WEFT_OK;
}

/* The same, of one that is open. */
static weft_status warm_slowly(void *data)
{
    warm(data);
    return WEFT_OK;
}

/* Looks for `path`, which lives as long as the ctx. OK: it was found, or not (entry->fd). */
static weft_status look_up(weft_ctx *ctx, const struct site *site, const char *path,
                           struct entry **found)
{
    struct entry *entry = weft_alloc(ctx, sizeof *entry);

    *entry = (struct entry){.site = site, .path = path, .fd = -1, .error = EAGAIN};
    *found = entry;
    WEFT_TRY(weft_defer(ctx, on_end, entry));
    if (site->resolve_fast != 0 && open_entry(entry, site->resolve_fast))
        return WEFT_OK;
    if (entry->error != EAGAIN)
        return WEFT_OK;
    return weft_await(weft_offload(ctx, open_slowly, entry));
}

/* Is the first byte that is to be sent in memory? */
static int is_warm(const struct entry *entry)
{
    char byte;
    struct iovec room = {&byte, 1};

    return preadv2(entry->fd, &room, 1, (off_t)entry->warm_at, RWF_NOWAIT) >= 0 || errno != EAGAIN;
}

/* ---- what it is ---- */

static int compare_type(const void *ending, const void *type)
{
    return strcasecmp(ending, ((const struct type *)type)->ending);
}

static const char *type_of(weft_ctx *ctx, const struct site *site, const char *path)
{
    const char *name = strrchr(path, '/'), *dot = strrchr(name != NULL ? name : path, '.');
    const char *type = NULL;

    for (uint32_t i = 0; dot != NULL && i < site->type_count && type == NULL; i++) {
        if (strcasecmp(dot + 1, site->types[i].ending) == 0)
            type = site->types[i].name;
    }
    if (dot != NULL && type == NULL) {
        const struct type *known =
            bsearch(dot + 1, types, sizeof types / sizeof types[0], sizeof types[0], compare_type);
        type = known != NULL ? known->name : NULL;
    }
    if (type == NULL)
        type = site->default_type.ptr;
    if (site->charset.len == 0 || strchr(type, ';') != NULL ||
        (strncmp(type, "text/", 5) != 0 && strcmp(type, "application/json") != 0 &&
         strcmp(type, "application/xml") != 0))
        return type;
    return weft_fmt(ctx, "%s; charset=%s", type, site->charset.ptr).ptr;
}

static int is_older(const struct stat *a, const struct stat *b)
{
    return a->st_mtim.tv_sec != b->st_mtim.tv_sec ? a->st_mtim.tv_sec < b->st_mtim.tv_sec
                                                  : a->st_mtim.tv_nsec < b->st_mtim.tv_nsec;
}

/* Puts the neighbour that the client likes best, if it likes any better, in the place of
 * `*entry`. */
static weft_status choose_encoding(weft_ctx *ctx, const struct site *site, struct entry **entry,
                                   const char **encoding)
{
    struct encoding left[ENCODINGS_MAX];
    const char *offers[ENCODINGS_MAX + 1];
    uint32_t count = site->encoding_count;

    *encoding = NULL;
    memcpy(left, site->encodings, sizeof left);
    if (weft_header(ctx, "Accept-Encoding").ptr == NULL)
        return WEFT_OK;
    while (count > 0) {
        struct entry *other;
        int32_t best;

        for (uint32_t i = 0; i < count; i++)
            offers[i] = left[i].name;
        offers[count] = "identity";
        best = weft_prefers(ctx, "Accept-Encoding", count + 1, offers);
        if (best < 0 || (uint32_t)best == count)
            return WEFT_OK;
        WEFT_TRY(look_up(ctx, site, weft_fmt(ctx, "%s%s", (*entry)->path, left[best].ending).ptr,
                         &other));
        if (other->fd >= 0 && S_ISREG(other->about.st_mode) &&
            !is_older(&other->about, &(*entry)->about)) {
            close_entry(*entry);
            *entry = other;
            *encoding = left[best].name;
            return WEFT_OK;
        }
        close_entry(other);
        left[best] = left[--count];
    }
    return WEFT_OK;
}

/* ---- answering ---- */

static int is_fresh(const struct stat *about)
{
    time_t now = time(NULL);

    return about->st_mtim.tv_sec > now - FRESH_S;
}

static weft_str etag_of(weft_ctx *ctx, const struct stat *about, const char *encoding)
{
    uint64_t ns = (uint64_t)about->st_mtim.tv_sec * 1000000000 + (uint64_t)about->st_mtim.tv_nsec;

    return weft_fmt(ctx, "%s\"%llx-%llx%s%s\"", is_fresh(about) ? "W/" : "", (unsigned long long)ns,
                    (unsigned long long)about->st_size, encoding != NULL ? "-" : "",
                    encoding != NULL ? encoding : "");
}

/* What goes with a 304, too. */
static weft_status set_fields(weft_ctx *ctx, const struct site *site, const struct entry *entry,
                              weft_str etag)
{
    WEFT_TRY(weft_set_header(ctx, "ETag", etag));
    if (entry->about.st_mtim.tv_sec >= 0)
        WEFT_TRY(weft_set_header(ctx, "Last-Modified",
                                 weft_http_date(ctx, entry->about.st_mtim.tv_sec)));
    if (site->cache_control.len > 0)
        WEFT_TRY(weft_set_header(ctx, "Cache-Control", site->cache_control));
    if (site->encoding_count > 0)
        WEFT_TRY(weft_set_header(ctx, "Vary", weft_cstr("Accept-Encoding")));
    return WEFT_OK;
}

/* Which part of it the client wants; below 0: it was answered. */
static int64_t take_range(weft_ctx *ctx, const struct entry *entry, weft_str etag, weft_file *file)
{
    uint64_t size = (uint64_t)entry->about.st_size;
    int64_t modified_s = is_fresh(&entry->about) ? -1 : entry->about.st_mtim.tv_sec;
    uint32_t code = weft_range(ctx, etag, modified_s, size, &file->offset, &file->length);
    weft_str text;

    if (code == 200)
        return code;
    text = code == 416 ? weft_fmt(ctx, "bytes */%llu", (unsigned long long)size)
                       : weft_fmt(ctx, "bytes %llu-%llu/%llu", (unsigned long long)file->offset,
                                  (unsigned long long)(file->offset + file->length - 1),
                                  (unsigned long long)size);
    if (weft_set_header(ctx, "Content-Range", text) != WEFT_OK)
        return WEFT_E_STATE;
    return code;
}

static weft_status reply_entry(weft_ctx *ctx, const struct site *site, struct entry *entry,
                               const char *encoding, const char *type)
{
    weft_str etag = etag_of(ctx, &entry->about, encoding);
    uint32_t code = weft_precondition(ctx, etag, entry->about.st_mtim.tv_sec);
    weft_file file = {sizeof file, -1, 0, 0};
    int64_t part;

    if (code == 412)
        return weft_problem(ctx, code, NULL);
    part = code == 0 ? take_range(ctx, entry, etag, &file) : 0;
    if (part < 0)
        return (weft_status)part;
    if (part == 416)
        return weft_problem(ctx, 416, NULL);
    WEFT_TRY(set_fields(ctx, site, entry, etag));
    if (code == 304)
        return weft_reply(ctx, code, NULL, weft_cstr(""));
    WEFT_TRY(weft_set_header(ctx, "Accept-Ranges", weft_cstr("bytes")));
    if (encoding != NULL)
        WEFT_TRY(weft_set_header(ctx, "Content-Encoding", weft_cstr(encoding)));
    WEFT_TRY(weft_set_header(ctx, "X-Content-Type-Options", weft_cstr("nosniff")));
    entry->warm_at = file.offset;
    if (file.length > 0 && weft_equal(weft_method(ctx), weft_cstr("GET")) && !is_warm(entry))
        WEFT_TRY(weft_await(weft_offload(ctx, warm_slowly, entry)));
    file.fd = entry->fd;
    entry->fd = -1;
    return weft_reply_file(ctx, (uint32_t)part, type, &file);
}

/* What is said of one that cannot be served. */
static weft_status reply_error(weft_ctx *ctx, const struct entry *entry)
{
    switch (entry->error) {
    case ENOENT:
    case ENOTDIR:
    case ENAMETOOLONG:
    case ENXIO:
        return WEFT_E_NOT_FOUND;
    case EXDEV:
    case ELOOP:
        weft_log(ctx, WEFT_LOG_WARN, "%s: a symlink that is not followed, or leads out of the root",
                 entry->path);
        return WEFT_E_NOT_FOUND;
    case EACCES:
    case EPERM:
        weft_log(ctx, WEFT_LOG_WARN, "%s: %s", entry->path, strerror(entry->error));
        return weft_problem(ctx, 403, NULL);
    case EMFILE:
    case ENFILE:
    case EAGAIN:
        weft_log(ctx, WEFT_LOG_ERROR, "%s: %s", entry->path, strerror(entry->error));
        return WEFT_E_OVERLOAD;
    default:
        weft_log(ctx, WEFT_LOG_ERROR, "%s: %s", entry->path, strerror(entry->error));
        return weft_problem(ctx, 500, NULL);
    }
}

/* Relative links in a folder's page need the slash. A Location with two at its beginning would name
 * another host, and no page links to such a path. */
static weft_status reply_with_slash(weft_ctx *ctx)
{
    weft_str query = weft_query_string(ctx);

    if (strncmp(weft_path(ctx).ptr, "//", 2) == 0)
        return WEFT_E_NOT_FOUND;
    WEFT_TRY(
        weft_set_header(ctx, "Location",
                        weft_fmt(ctx, "%s/%s%s", weft_path(ctx).ptr, query.ptr != NULL ? "?" : "",
                                 query.ptr != NULL ? query.ptr : "")));
    return weft_reply(ctx, 308, NULL, weft_cstr(""));
}

/* ---- the path ---- */

static int is_hidden(const char *segment, size_t len)
{
    return segment[0] == '.' && !(len == 11 && memcmp(segment, ".well-known", 11) == 0);
}

/* Is it what it looks like: no slash that was written as %2F, no empty segment, either of which
 * would get past a filter's prefix? And nothing that is hidden. */
static int is_plain(weft_ctx *ctx, const struct site *site, weft_str path)
{
    const char *at = path.ptr;

    if (strcasestr(weft_path(ctx).ptr, "%2f") != NULL)
        return 0;
    while (*at != '\0') {
        size_t len = strcspn(at, "/");

        if (len == 0 || (is_hidden(at, len) && !site->shows_hidden) ||
            (len <= 2 && strncmp(at, "..", len) == 0))
            return 0;
        at += len + (at[len] == '/');
    }
    return 1;
}

static weft_status serve(weft_ctx *ctx, void *self)
{
    const struct site *site = self;
    weft_str path = weft_param(ctx, "path"), all = weft_path(ctx);
    int is_folder = all.ptr[all.len - 1] == '/';
    const char *encoding, *type;
    struct entry *entry;

    if (path.ptr == NULL)
        path = weft_cstr("");
    if (!is_plain(ctx, site, path))
        return WEFT_E_NOT_FOUND;
    if (path.len == 0 && !is_folder)
        return reply_with_slash(ctx);
    if (is_folder && site->index.len == 0)
        return WEFT_E_NOT_FOUND;
    if (is_folder)
        path = weft_fmt(ctx, "%s%s", path.ptr, site->index.ptr);
    WEFT_TRY(look_up(ctx, site, path.ptr, &entry));
    if (entry->fd < 0)
        return reply_error(ctx, entry);
    if (S_ISDIR(entry->about.st_mode) && !is_folder)
        return reply_with_slash(ctx);
    if (!S_ISREG(entry->about.st_mode))
        return WEFT_E_NOT_FOUND;
    type = type_of(ctx, site, path.ptr);
    WEFT_TRY(choose_encoding(ctx, site, &entry, &encoding));
    return reply_entry(ctx, site, entry, encoding, type);
}

/* ---- settings ---- */

static weft_status refuse(const char *key, const char *value, const char *expected)
{
    weft_log(NULL, WEFT_LOG_ERROR, "%s = %s: %s", key, value, expected);
    return WEFT_E_INVALID;
}

/* The next word of `*text`, which it takes apart; NULL: there is none. */
static char *next_word(char **text)
{
    char *word = *text + strspn(*text, " \t,");
    size_t len = strcspn(word, " \t,");

    *text = word + len + (word[len] != '\0');
    word[len] = '\0';
    return len > 0 ? word : NULL;
}

static weft_status read_encodings(struct site *site, const char *value)
{
    char *copy = strdup(value), *at = copy, *word;
    weft_status status = copy != NULL ? WEFT_OK : WEFT_E_OVERLOAD;

    while (status == WEFT_OK && (word = next_word(&at)) != NULL) {
        uint32_t i = 0;

        while (i < ENCODINGS_MAX && strcmp(encodings[i].name, word) != 0)
            i++;
        if (i == ENCODINGS_MAX || site->encoding_count == ENCODINGS_MAX)
            status = refuse("precompressed", value, "expected some of br, zstd and gzip");
        else
            site->encodings[site->encoding_count++] = encodings[i];
    }
    free(copy);
    return status;
}

static weft_status read_types(struct site *site, const char *value)
{
    char *at = strdup(value), *ending, *type;

    site->types_text = at;
    if (at == NULL)
        return WEFT_E_OVERLOAD;
    while ((ending = next_word(&at)) != NULL) {
        type = next_word(&at);
        if (type == NULL || strchr(type, '/') == NULL || site->type_count == TYPES_MAX)
            return refuse("types", value,
                          "expected at most 64 of ENDING TYPE, such as md text/markdown");
        site->types[site->type_count++] = (struct type){ending, type};
    }
    return WEFT_OK;
}

static weft_status open_root(struct site *site, const char *path)
{
    struct entry probe = {.site = site, .path = ".", .fd = -1};

    if (path[0] != '/')
        return refuse("root", path, "expected an absolute path");
    site->root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (site->root < 0)
        return refuse("root", path, strerror(errno));
    if (!open_entry(&probe, site->resolve) && probe.error == ENOSYS)
        return refuse("root", path, "this kernel has no openat2(): Linux 5.6 or later");
    if (probe.fd < 0)
        return refuse("root", path, strerror(probe.error));
    close_entry(&probe);
    site->resolve_fast = site->resolve | RESOLVE_CACHED;
    if (!open_entry(&probe, site->resolve_fast) && probe.error == EINVAL)
        site->resolve_fast = 0;
    close_entry(&probe);
    return WEFT_OK;
}

static weft_status configure(weft_host *host, struct site *site)
{
    weft_str root, precompressed, types_set;
    uint32_t symlinks;

    WEFT_TRY(weft_setting(host, "root", NULL, &root));
    WEFT_TRY(weft_setting(host, "index", "index.html", &site->index));
    WEFT_TRY(weft_setting(host, "precompressed", "br zstd gzip", &precompressed));
    WEFT_TRY(weft_setting(host, "cache_control", "", &site->cache_control));
    WEFT_TRY(weft_setting(host, "charset", "utf-8", &site->charset));
    WEFT_TRY(weft_setting(host, "types", "", &types_set));
    WEFT_TRY(weft_setting(host, "default_type", "application/octet-stream", &site->default_type));
    WEFT_TRY(weft_setting_bool(host, "hidden", 0, &site->shows_hidden));
    WEFT_TRY(weft_setting_bool(host, "symlinks", 1, &symlinks));
    if (strchr(site->index.ptr, '/') != NULL)
        return refuse("index", site->index.ptr, "expected a name without a slash");
    site->resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | (symlinks ? 0 : RESOLVE_NO_SYMLINKS);
    WEFT_TRY(read_encodings(site, precompressed.ptr));
    WEFT_TRY(read_types(site, types_set.ptr));
    WEFT_TRY(open_root(site, root.ptr));
    WEFT_TRY(weft_route(host, "GET", "", serve));
    return weft_route(host, "GET", "/*path", serve);
}

static void stop(void *self)
{
    struct site *site = self;

    if (site->root >= 0)
        (void)close(site->root);
    free(site->types_text);
}

static weft_status init(weft_host *host, void **self)
{
    static struct site site;
    weft_status status;

    site = (struct site){.root = -1};
    *self = &site;
    status = configure(host, &site);
    if (status != WEFT_OK)
        stop(&site);
    return status;
}

WEFT_PLUGIN("static", "1.0", init, NULL, stop);
