/* lib/temp_dir.h - a folder of a test's own, removed with everything in it.
 *
 * Loop:   none.
 * Memory: the caller owns the struct; nothing is allocated.
 * Limits: paths below it are at most 255 bytes long.
 */
#ifndef WEFT_TESTS_LIB_TEMP_DIR_H
#define WEFT_TESTS_LIB_TEMP_DIR_H

#include <stddef.h>

/* One folder. Valid from temp_dir_init() to temp_dir_deinit(). */
struct temp_dir {
    char path[64];  /* of the folder, without a slash at the end */
    char file[256]; /* what temp_dir_path() answered last */
};

/* Makes the folder below $TMPDIR, or /tmp. Fails the test where that cannot be. */
void temp_dir_init(struct temp_dir *dir);

/* Removes it with all that is in it. A zeroed struct is nothing, and twice is fine. */
void temp_dir_deinit(struct temp_dir *dir);

/* The path of `name` in it, good until the next call for this folder. */
const char *temp_dir_path(struct temp_dir *dir, const char *name);

/* Writes `size` bytes as file `name` and answers its path, as temp_dir_path() does. */
const char *temp_dir_write(struct temp_dir *dir, const char *name, const void *data, size_t size);

#endif
