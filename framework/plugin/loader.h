/* plugin/loader.h - from a file to the descriptor of a plugin, in memory of its own.
 *
 * The file is copied to <copy_dir>/<instance>.so, and the copy is checked and loaded: each
 * configured instance has statics of its own, and a file that is replaced, or half written, hurts
 * nobody who runs. The first worker of a generation makes the copy, the others find it, so that all
 * of a generation run the same code; the folder must be empty when a generation begins.
 * Nothing of the plugin runs before its note was read and found right, and what anybody on the
 * machine could have put there is refused.
 * Loop:   blocks; at start only.
 * Memory: code is never unmapped: new code means new workers.
 */
#ifndef WEFT_PLUGIN_LOADER_H
#define WEFT_PLUGIN_LOADER_H

#include "base/error.h"
#include "settings/ini.h"
#include <stdbool.h>
#include <stdint.h>

/* What to load. */
struct loader_request {
    const char *file;      /* of the plugin, absolute */
    const char *copy_dir;  /* where the copy goes; exists */
    const char *instance;  /* the copy's name without ".so": a section's name, no '/' in it */
    const char *symbol;    /* of the descriptor */
    uint32_t major, minor; /* the host's ABI: the same major and no higher minor is accepted */
    bool writable_by_all;  /* accept a file, or one in a folder, that everybody may write */
};

/* Loads it: `*descriptor` is what the symbol names. On failure `problem` is one sentence that
 * begins with the file. ERR_UNSUPPORTED: another ABI or machine; ERR_NOT_FOUND: no such file, no
 * note, no symbol; ERR_SYNTAX, ERR_TOO_BIG: no shared object, or a part of one; ERR_IO;
 * ERR_INVALID: it does not link, its name cannot be a file's, or everybody may write it. */
enum err loader_load(const struct loader_request *request, const void **descriptor,
                     char problem[INI_PROBLEM_SIZE]) __attribute__((warn_unused_result));

#endif
