/* lib/temp_dir.c - a folder of a test's own, removed with everything in it. */
#include "lib/temp_dir.h"
#include "lib/test.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void temp_dir_init(struct temp_dir *dir)
{
    const char *base = getenv("TMPDIR");

    memset(dir, 0, sizeof *dir);
    /* A long one is not used: sockets made in the folder must fit into 107 bytes. */
    if (base == NULL || base[0] != '/' || strlen(base) > 40)
        base = "/tmp";
    (void)snprintf(dir->path, sizeof dir->path, "%s/weft-test-XXXXXX", base);
    if (mkdtemp(dir->path) == NULL)
        fail_msg("cannot make the folder %s", dir->path);
}

static int remove_entry(const char *path, const struct stat *status, int kind, struct FTW *walk)
{
    (void)status;
    (void)kind;
    (void)walk;
    return remove(path);
}

void temp_dir_deinit(struct temp_dir *dir)
{
    if (dir->path[0] == '\0')
        return;
    if (nftw(dir->path, remove_entry, 16, FTW_DEPTH | FTW_PHYS) != 0)
        fail_msg("cannot remove the folder %s", dir->path);
    dir->path[0] = '\0';
}

const char *temp_dir_path(struct temp_dir *dir, const char *name)
{
    int size = snprintf(dir->file, sizeof dir->file, "%s/%s", dir->path, name);

    assert_in_range(size, 1, sizeof dir->file - 1);
    return dir->file;
}

const char *temp_dir_write(struct temp_dir *dir, const char *name, const void *data, size_t size)
{
    FILE *file = fopen(temp_dir_path(dir, name), "we");

    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
    return dir->file;
}
