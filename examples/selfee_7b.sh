#!/usr/bin/env bash
# SelFee-7B from the downloads to an answer.
#
# BASE is a directory of LLaMA-7B, from Meta or converted for Hugging Face; its licence is Meta's,
# and you must have been given access. DELTA is the published difference (CC BY-NC 4.0): a
# directory, or kaist-ai/selfee-7b-delta, which is downloaded then.
#
# Usage: examples/selfee_7b.sh BASE DELTA OUT "Your question" [more options of selfee ask]
set -euo pipefail

if [ "$#" -lt 4 ]; then
    sed -n '2,10s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
base=$1 delta=$2 out=$3 question=$4
shift 4

if [ ! -e "$out" ]; then
    selfee apply-delta --base "$base" --delta "$delta" --out "$out"
fi
selfee verify "$out"
selfee ask "$question" --model "$out" "$@"
