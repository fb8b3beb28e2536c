# A reward of your own: one JSON object a line in, one a line out, in the same order. In a recipe:
#     rewards: [{kind: external, command: "python3 recipes/examples/reward_ten_lines.py", weight: 0.5}]
import json
import sys

for line in sys.stdin:
    request = json.loads(line)  # {"prompt": .., "completion": .., "row": {"answer": .., ...}}
    think = request["completion"].partition("</think>")[0]
    score = min(think.count("=") / 3, 1.0)  # likes three worked equations or more
    print(json.dumps({"score": score, "reason": "enough steps" if score == 1.0 else "few steps"}), flush=True)
