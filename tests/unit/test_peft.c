/* Adapters in a folder as peft writes it: what the numbers of its configuration mean, modules without an adapter, and what is no
 * plain LoRA. (tests/peers/peft_check.py compares with peft itself.) */
#include "tests/unit/unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "checkpoints/hf/peft.h"
#include "checkpoints/lora.h"
#include "tests/unit/scratch.h"

enum { RANK = 2, WIDTH = 64 }; /* of tests/golden/llama, whose q_proj is square */

static const char MODULE[] = "model.layers.1.self_attn.q_proj";

/* A folder with an adapter of one module, of ones in A and twos in B; `more`: further members of its configuration, or all
 * of it. */
static void write_adapter(const char *more)
{
    char text[512], name[128], path[512];
    float ones[RANK * WIDTH], twos[RANK * WIDTH];
    Status st = {0};
    for (int i = 0; i < RANK * WIDTH; i++) ones[i] = 1, twos[i] = 2;
    mkdir(scratch_path("adapter"), 0777);
    if (*more == '{') snprintf(text, sizeof text, "%s", more);
    else
        snprintf(text, sizeof text, "{\"peft_type\": \"LORA\", \"r\": %d, \"target_modules\": [\"q_proj\"]%s}", RANK,
                 more);
    scratch_put("adapter/adapter_config.json", text, strlen(text));
    snprintf(path, sizeof path, "%s", scratch_path("adapter/adapter_model.safetensors"));
    StWriter *w = st_writer_open(path, &st);
    for (int pass = 0; pass < 2; pass++)
        for (int b = 0; b < 2; b++) {
            snprintf(name, sizeof name, "base_model.model.%s.lora_%c.weight", MODULE, b ? 'B' : 'A');
            if (pass) assert_true(st_writer_data(w, name, b ? twos : ones, &st));
            else st_writer_add(w, name, ST_F32, 2, b ? (uint64_t[]){WIDTH, RANK} : (uint64_t[]){RANK, WIDTH});
        }
    assert_true(st_writer_close(w, &st));
}

static LoadedModel *base(void)
{
    Status st = {0};
    LoadedModel *m = model_open("tests/golden/llama", MODEL_WEIGHTS, &st);
    assert_non_null(m);
    return m;
}

/* W + alpha / r B A, or alpha / sqrt(r): of the adapted module, no other. */
static void merged(void **state)
{
    (void)state;
    static const struct {
        const char *more;
        float scale;
    } cases[] = {{", \"lora_alpha\": 16", 8},
                 {", \"lora_alpha\": 3", 1.5f},
                 {"", 4}, /* peft's default is 8 */
                 {", \"lora_alpha\": 16, \"use_rslora\": true", 11.313708f}};
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        Status st = {0};
        LoadedModel *was = base(), *m = base();
        write_adapter(cases[k].more);
        if (!model_add_adapter(m, scratch_path("adapter"), &st)) fail_msg("%s", st.text);
        assert_int_equal(m->config.lora.rank, RANK);
        assert_int_equal(m->config.lora.targets, 1 << LORA_Q_PROJ);
        assert_float_equal(lora_scale(&m->config.lora), cases[k].scale, 1e-4);
        float *sum = malloc(WIDTH * WIDTH * 4 * sizeof *sum);
        WeightSource source = merged_source(m);
        for (int i = 0; i < was->table.n; i++) {
            const Param *p = &was->table.params[i];
            bool adapted = !strncmp(p->name, MODULE, sizeof MODULE - 1);
            assert_true(p->count <= WIDTH * WIDTH * 4 && source.read(source.from, p, sum, &st));
            for (size_t j = 0; j < p->count; j++)
                assert_float_equal(sum[j], was->weights[p->offset + j] + (adapted ? cases[k].scale * RANK * 2 : 0),
                                   1e-4);
        }
        free(sum);
        model_close(was);
        model_close(m);
    }
}

/* Modules of the adapted kind that the file lacks have A = B = 0: nothing random is left there for a later export. */
static void missing_modules(void **state)
{
    (void)state;
    Status st = {0};
    LoadedModel *m = base();
    int zero = 0, others = 0;
    write_adapter("");
    assert_true(model_add_adapter(m, scratch_path("adapter"), &st));
    for (int i = m->table.adapters; i < m->table.n; i++) {
        const Param *p = &m->table.params[i];
        float largest = 0;
        for (size_t j = 0; j < p->count; j++)
            largest = m->weights[p->offset + j] > largest ? m->weights[p->offset + j] : largest;
        *(largest == 0 ? &zero : &others) += 1;
    }
    assert_int_equal(others, 2);
    assert_int_equal(zero, 2 * (m->config.L - 1));
    model_close(m);
}

static void refused(void **state)
{
    (void)state;
    static const struct {
        const char *more, *words;
    } cases[] = {
        {", \"bias\": \"all\"", "bias (biases were trained too)"},
        {", \"bias\": \"lora_only\"", "bias (biases were trained too)"},
        {", \"use_dora\": true", "use_dora"},
        {", \"rank_pattern\": {\"q_proj\": 4}", "rank_pattern"},
        {", \"alpha_pattern\": {\"q_proj\": 4}", "alpha_pattern"},
        {", \"modules_to_save\": [\"lm_head\"]", "modules_to_save"},
        {", \"lora_bias\": true", "lora_bias"},
        {", \"fan_in_fan_out\": true", "fan_in_fan_out"},
        {", \"layer_replication\": [[0, 1]]", "layer_replication"},
        {", \"init_lora_weights\": \"pissa_niter_4\"", "init_lora_weights is pissa_niter_4"},
        {"{\"peft_type\": \"LORA\", \"r\": 0}", "no possible rank"},
        {"{\"peft_type\": \"LORA\", \"r\": 3}", "but r = 3"},
        {"{\"peft_type\": \"IA3\", \"r\": 2}", "only LORA can be read"},
    };
    LoadedModel *m = base();
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        Status st = {0};
        LoraConfig l;
        write_adapter(cases[k].more);
        assert_null(peft_open(scratch_path("adapter"), &m->config, &l, &st));
        assert_true(says(&st, cases[k].words));
    }
    /* What switches nothing on. */
    write_adapter(", \"bias\": \"none\", \"use_dora\": false, \"rank_pattern\": {}, \"modules_to_save\": null");
    Status st = {0};
    LoraConfig l;
    Peft *p = peft_open(scratch_path("adapter"), &m->config, &l, &st);
    assert_non_null(p);
    peft_close(p);
    model_close(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(merged), cmocka_unit_test(missing_modules),
                                       cmocka_unit_test(refused)};
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
