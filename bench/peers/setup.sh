#!/usr/bin/env bash
# Makes a scratch Python environment with the peers, outside the tree: bench/peers/setup.sh FOLDER
set -euo pipefail
folder=${1:?usage: setup.sh FOLDER}
python3 -m venv "$folder"
"$folder/bin/pip" -q install torch transformers==4.57.6 peft safetensors gguf llama-cpp-python
