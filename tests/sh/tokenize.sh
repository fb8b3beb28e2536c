#!/bin/sh
# r1 tokenize and r1 template as other programs call them: a JSON line in, a JSON line out, exit codes, one sentence.
set -eu
. tests/lib.sh
qwen=tests/tokenizers/qwen3


expect '[9707, 11, 1879, 0]
[151644, 198, 151645]' "$(printf '%s\n' '"Hello, world!"' '"<|im_start|>\n<|im_end|>"' | "$R1" tokenize $qwen)"
expect '"Hello, world!"' "$(echo '[9707, 11, 1879, 0, 151645]' | "$R1" tokenize $qwen/tokenizer.json --decode)"
expect '"Hello<|im_end|>"' "$(echo '[9707, 151645]' | "$R1" tokenize $qwen --decode --special)"
expect '"a\u0000é"' "$(echo '"a\u0000\u00e9"' | "$R1" tokenize $qwen | "$R1" tokenize $qwen --decode)"

hi='[{"role": "user", "content": "Hi"}]'
expect '"<|im_start|>user\nHi<|im_end|>\n"' "$(echo "$hi" | "$R1" template $qwen)"
expect '"<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"' \
    "$(echo "$hi" | "$R1" template $qwen --add-generation-prompt)"
expect '"<｜begin▁of▁sentence｜><｜User｜>Hi<｜Assistant｜>"' \
    "$(echo "$hi" | "$R1" template tests/tokenizers/deepseek_v3 --add-generation-prompt)"
expect '"<|im_start|>user\nHi<|im_end|>\n"' "$(echo "$hi" | "$R1" template $qwen --template chatml)"

expect_error 2 'r1 tokenize --help' "$R1" tokenize
expect "$(echo '"<|im_end|>"' | "$R1" tokenize $qwen)" "$(echo '"<|im_end|>"' | "$R1" tokenize $qwen --special)"
expect_error 2 'no chat template "qwen9"' "$R1" template $qwen --template qwen9
expect_error 1 'No such file' "$R1" tokenize "$TEST_DIR/none"
expect_error 1 'line 2: expected a JSON string' sh -c "printf '\"a\"\n3\n' | '$R1' tokenize $qwen"
expect_error 1 'line 1: element 0 is not an id' sh -c "echo '[-1]' | '$R1' tokenize $qwen --decode"
mkdir "$TEST_DIR/odd"
cp $qwen/tokenizer.json "$TEST_DIR/odd"
echo '{"chat_template": "[INST] {{ messages }}"}' >"$TEST_DIR/odd/tokenizer_config.json"
expect_error 1 'name one with --template' "$R1" template "$TEST_DIR/odd"
echo '{' >"$TEST_DIR/odd/tokenizer_config.json"
expect_error 1 'tokenizer_config.json: line 2' "$R1" template "$TEST_DIR/odd"
