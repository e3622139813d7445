/* Goal: no text of a settings file does harm, and one that is refused says why. No file is read for
 *       it. */
#include "settings/ini.h"
#include "base/mem.h"
#include "fuzz/fuzz.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = mem_alloc(size + 1), problem[INI_PROBLEM_SIZE] = "";
    struct ini_file *file = NULL;

    memcpy(text, data, size);
    text[size] = '\0';
    if (strstr(text, "${file:") == NULL) {
        if (ini_parse_text("fuzz.ini", text, &file, problem) == ERR_OK) {
            (void)ini_unused(file, problem);
            ini_free(file);
        } else {
            MUST(problem[0] != '\0');
        }
    }
    mem_free(text);
    return 0;
}
