/* config.json: what is accepted must make a table of parameters, and say the same when it is written and read again. */
#include <stdlib.h>
#include <string.h>

#include "checkpoints/hf/hf.h"
#include "core/base/check.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Status st = {0};
    ModelConfig config, again;
    Json *object = json_parse((const char *)data, size, "input", &st);
    CHECK(object || st.failed);
    if (object && hf_config_parse(object, &config, &st)) {
        ParamTable table = params_build(&config);
        params_free(&table);
        Json *written = hf_config_json(&config);
        Status second = {0};
        CHECK(hf_config_parse(written, &again, &second));
        json_free(written);
    }
    json_free(object);
    return 0;
}
