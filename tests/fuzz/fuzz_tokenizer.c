/* tokenizer.json: read, used both ways, stored and read again. */
#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "data/template/template.h"
#include "data/tokenizer/tokenizer.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char text[] = "Hello <|im_end|> 1234 na\xc3\xafve \xe4\xbd\xa0\xf0\x9f\x98\x80\xff\n  x";
    Status st = {0};
    Tokenizer *t = tokenizer_parse((const char *)data, size, "input", &st);
    CHECK(t || st.failed);
    if (!t) return 0;
    Ids ids = {0};
    tokenizer_encode(t, text, sizeof text - 1, &ids);
    for (int i = 0; i < ids.n; i++) CHECK(ids.ids[i] >= 0 && ids.ids[i] < tokenizer_vocab(t));
    free(tokenizer_decode(t, ids.ids, ids.n, true));
    TextStream stream = {0};
    for (int i = 0; i < ids.n; i++) free(tokenizer_stream(t, &stream, ids.ids[i], true));
    free(tokenizer_stream_end(&stream));
    ChatTemplate chat;
    Status unknown = {0}, again = {0};
    template_for(t, NULL, &chat, &unknown);
    size_t length;
    char *bytes = tokenizer_serialize(t, &length);
    Tokenizer *same = tokenizer_parse(bytes, length, "stored", &again);
    CHECK(same != NULL);
    tokenizer_free(same);
    free(bytes);
    free(ids.ids);
    tokenizer_free(t);
    return 0;
}
