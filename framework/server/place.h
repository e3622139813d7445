/* server/place.h - where a running host is to be found, from its settings.
 *
 * Memory: owns its texts until place_clear().
 */
#ifndef WEFT_SERVER_PLACE_H
#define WEFT_SERVER_PLACE_H

#include "base/error.h"
#include "settings/ini.h"

struct place {
    char *runtime_dir; /* [server] runtime_dir, absolute; "": not said */
    char *control;     /* [server] control, absolute; "": not said */
};

/* Reads nothing but these two keys of the file `path` and of `overrides` (settings_load()), so that
 * a host is found whatever else is wrong with them. Where even these cannot be had, `problem` says
 * why, and both are "". To be cleared in either case. */
enum err place_find(const char *path, const char *const *overrides, struct place *place,
                    char problem[INI_PROBLEM_SIZE]) __attribute__((warn_unused_result));

/* Frees the texts. Twice is fine. */
void place_clear(struct place *place);

#endif
