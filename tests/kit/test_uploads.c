/* Goal: plugins/uploads, with the test kit: files of a form get to the folder, whole and under
 * names of their own; what is no form, or too large, or breaks off, leaves nothing there. */
#include "lib/temp_dir.h"
#include "lib/test.h"
#include "weft_test.h"
#include <dirent.h>
#include <stdio.h>
#include <unistd.h>

#define TYPE "Content-Type: multipart/form-data; boundary=x"
#define FILE_PART(name, data) \
    "--x\r\nContent-Disposition: form-data; name=\"f\"; filename=\"" name "\"\r\n\r\n" data "\r\n"
#define FIELD "--x\r\nContent-Disposition: form-data; name=\"g\"\r\n\r\nnot a file\r\n"

static struct temp_dir dir;

static int set_up(void **state)
{
    (void)state;
    temp_dir_init(&dir);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    temp_dir_deinit(&dir);
    return 0;
}

static weft_test *start(const char *more)
{
    char settings[256];
    weft_test *t;

    snprintf(settings, sizeof settings, "folder = %s\nmount = /up\n%s", dir.path, more);
    t = weft_test_start(settings);
    assert_null(weft_test_problem(t));
    return t;
}

static weft_test_request *post(weft_test *t, const char *body)
{
    return weft_test_ask(t, "POST", "/up", TYPE, body);
}

/* Files in the folder; `text` gets the last one's. */
static int saved(char text[64])
{
    DIR *folder = opendir(dir.path);
    const struct dirent *entry;
    int count = 0;

    assert_non_null(folder);
    while ((entry = readdir(folder)) != NULL) {
        FILE *file;

        if (entry->d_name[0] == '.')
            continue;
        count++;
        file = fopen(temp_dir_path(&dir, entry->d_name), "r");
        assert_non_null(file);
        text[fread(text, 1, 63, file)] = '\0';
        (void)fclose(file);
    }
    (void)closedir(folder);
    return count;
}

static void files_are_kept(void **state)
{
    weft_test *t = start("");
    weft_test_request *request = post(t, FIELD FILE_PART("a\\\"b", "hello") "--x--");
    char text[64];

    (void)state;
    assert_int_equal(weft_test_code(request), 201);
    assert_non_null(strstr(weft_test_body(request).ptr,
                           "[{\"field\":\"f\",\"filename\":\"a\\\"b\",\"size\":5,\"name\":\""));
    assert_int_equal(saved(text), 1);
    assert_string_equal(text, "hello");
    weft_test_is(post(t, FIELD "--x--"), 201, "[]");
    (void)post(t, FILE_PART("", "") FILE_PART("c", "d") "--x--");
    assert_int_equal(saved(text), 3);
    assert_int_equal(weft_test_end(t), 0);
}

static void what_is_wrong_leaves_nothing(void **state)
{
    static const struct {
        uint32_t code;
        const char *body;
    } cases[] = {
        {400, "no form"},
        {400, FILE_PART("a", "b")},
        {400, "--x\r\n\r\nb\r\n--x--"},
        {413, FILE_PART("a", "12345678901") "--x--"},
    };
    weft_test *t = start("file_max = 10\n");
    char text[64];

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        weft_test_is(post(t, cases[i].body), cases[i].code, NULL);
        assert_int_equal(saved(text), 0);
    }
    weft_test_is(weft_test_ask(t, "POST", "/up", "Content-Type: text/plain", "x"), 400, NULL);
    weft_test_is(weft_test_ask(t, "POST", "/up", NULL, NULL), 400, NULL);
    assert_int_equal(weft_test_end(t), 0);
}

static void too_many_files(void **state)
{
    weft_test *t = start("files_max = 1\n");

    (void)state;
    weft_test_is(post(t, FILE_PART("a", "b") "--x--"), 201, NULL);
    weft_test_is(post(t, FILE_PART("a", "b") FILE_PART("c", "d") "--x--"), 413, NULL);
    assert_int_equal(weft_test_end(t), 0);
}

/* Where no such file can be made. */
static void a_folder_that_takes_none(void **state)
{
    weft_test *t = weft_test_start("mount = /up\nfolder = /proc\n");

    (void)state;
    weft_test_is(post(t, FILE_PART("a", "b") "--x--"), 500, NULL);
    assert_non_null(strstr(weft_test_log(t), "/proc: "));
    assert_int_equal(weft_test_end(t), 0);
}

static void play(weft_test *t, void *data)
{
    (void)data;
    (void)post(t, FILE_PART("a", "b") FILE_PART("c", "d") "--x--");
}

static void whatever_goes_wrong(void **state)
{
    weft_test *t = start("");

    (void)state;
    assert_true(weft_test_sweep(t, play, NULL) > 10);
    assert_int_equal(weft_test_end(t), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(files_are_kept),           TEST(what_is_wrong_leaves_nothing), TEST(too_many_files),
        TEST(a_folder_that_takes_none), TEST(whatever_goes_wrong),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
