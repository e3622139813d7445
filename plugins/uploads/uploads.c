/* uploads - takes the files of forms (multipart/form-data) into a folder, under names of its own.
 *
 *     [plugin.uploads]
 *     path = uploads.so
 *     mount = /uploads
 *     folder = /srv/uploads     on a file system that has O_TMPFILE; required
 *     file_max = 1073741824     bytes of a file
 *     files_max = 16            files of a form
 *
 * POST answers 201 with what became of each: [{"field":"photo","filename":"me.png","size":12345,
 * "name":"4f0c..."}]. A file gets its name once all its bytes are on the disk; whatever fails or is
 * broken off before leaves none of its own. Files of any size take no memory, and their client is
 * held back while the disk is slow.
 */
#include "weft.h"
#include "weft_json.h"
#include "weft_multipart.h"
#include <sys/random.h>

enum { NAME_BYTES = 16 };

struct uploads {
    weft_str folder;   /* as set */
    int64_t file_max;  /* as set */
    int64_t files_max; /* as set */
};

/* A name that nobody has. */
static weft_str make_name(weft_ctx *ctx)
{
    unsigned char bytes[NAME_BYTES];
    char text[2 * NAME_BYTES + 1];

    if (getrandom(bytes, sizeof bytes, 0) != sizeof bytes)
        return (weft_str){NULL, 0};
    for (size_t i = 0; i < sizeof bytes; i++)
        (void)snprintf(text + 2 * i, 3, "%02x", bytes[i]);
    return weft_dup(ctx, weft_cstr(text));
}

/* A file, from the client to the disk. */
static weft_status take_file(weft_ctx *ctx, const struct uploads *uploads, weft_multipart *form,
                             const weft_part *part, weft_json *json)
{
    weft_str name = make_name(ctx);
    weft_saved saved;

    if (name.ptr == NULL)
        return WEFT_E_OVERLOAD;
    WEFT_TRY(weft_part_save(form, uploads->folder.ptr, (uint64_t)uploads->file_max, &saved));
    WEFT_TRY(
        weft_saved_keep(ctx, &saved, weft_fmt(ctx, "%s/%s", uploads->folder.ptr, name.ptr).ptr));
    weft_json_object(json);
    weft_json_key(json, "field");
    weft_json_string(json, part->name);
    weft_json_key(json, "filename");
    weft_json_string(json, part->filename);
    weft_json_key(json, "size");
    weft_json_int(json, (int64_t)saved.size);
    weft_json_key(json, "name");
    weft_json_string(json, name);
    weft_json_end(json);
    return WEFT_OK;
}

static weft_status upload(weft_ctx *ctx, void *self)
{
    const struct uploads *uploads = self;
    int64_t files = 0;
    weft_multipart *form;
    weft_json json;
    weft_part part;

    WEFT_TRY(weft_multipart_begin(ctx, NULL, &form));
    weft_json_begin(&json, ctx);
    weft_json_array(&json);
    for (;;) {
        WEFT_TRY(weft_multipart_next(form, &part));
        if (part.name.ptr == NULL)
            break;
        if (part.filename.ptr == NULL)
            continue; /* a field: none of ours */
        if (files++ == uploads->files_max)
            return weft_explain(ctx, WEFT_E_TOO_BIG, "too many files");
        WEFT_TRY(take_file(ctx, uploads, form, &part, &json));
    }
    weft_json_end(&json);
    return weft_json_reply(&json, 201);
}

static weft_status init(weft_host *host, void **self)
{
    static const weft_route_options streams = {
        .size = sizeof streams, .flags = WEFT_ROUTE_STREAM, .body_bytes_max = UINT32_MAX};
    static struct uploads uploads;

    *self = &uploads;
    WEFT_TRY(weft_setting(host, "folder", NULL, &uploads.folder));
    WEFT_TRY(weft_setting_int(host, "file_max", 1, INT64_MAX, INT64_C(1) << 30, &uploads.file_max));
    WEFT_TRY(weft_setting_int(host, "files_max", 1, 64, 16, &uploads.files_max));
    return weft_route_with(host, "POST", "", upload, NULL, &streams);
}

WEFT_PLUGIN("uploads", "1.0", init, NULL, NULL);
