/* Goal: whatever an upstream sends, the parser of answers reads nothing beyond it and says the same
 * of it however the bytes are cut. */
#include "fuzz/fuzz.h"
#include "fuzz/messages.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct messages whole, cut;

    messages_parse(data, size, size, HTTP_PARSE_ANSWERS, &whole);
    for (uint32_t part = 1; part < 4; part++) {
        size_t place = size > 0 ? (data[size - 1] + size * part / 4) % size : 0;
        messages_parse(data, size, place, HTTP_PARSE_ANSWERS, &cut);
        MUST(messages_equal(&whole, &cut));
    }
    return 0;
}
