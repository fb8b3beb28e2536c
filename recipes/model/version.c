/* `r1 --version`. Each library is asked by the one file that uses it. */
#include "recipes/model/version.h"

#include "checkpoints/h5.h"
#include "checkpoints/hash.h"
#include "cpu/cpu.h"
#include "data/json.h"
#include "data/tokenizer/regex.h"
#include "data/tokenizer/unicode.h"
#include "data/verify.h"
#include "recipes/config/yaml.h"

void version_print(FILE *out)
{
    const char *const libraries[] = {h5_library(),      yaml_library(),   json_library(), regex_library(),
                                     unicode_library(), verify_library(), hash_library()};
    fprintf(out, "r1 %s (commit %s)\n", R1_VERSION, r1_commit);
#ifdef __clang__
    const char *compiler = __VERSION__; /* names itself */
#else
    const char *compiler = "gcc " __VERSION__;
#endif
    fprintf(out, "kernels %d, made by %s\n", cpu_kernels_version(), compiler);
    fprintf(out, "matrix products: %s\n", cpu_matmul_libraries());
    for (size_t i = 0; i < sizeof libraries / sizeof *libraries; i++) fprintf(out, "%s\n", libraries[i]);
}
