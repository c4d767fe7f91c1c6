#!/usr/bin/env bash
# Installs Bezel into an empty folder, builds examples/cmake_project against it, and runs both on the demo's model.
#
#   install_test.sh SOURCE_FOLDER BUILD_FOLDER
set -euo pipefail
source_folder=$1 build_folder=$2
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cmake --install "$build_folder" --prefix "$scratch/prefix" > "$scratch/install.log"
if grep -rn "$source_folder/\(bezel\|cli\|demo\|build\)" "$scratch/prefix/lib/cmake" "$scratch/prefix/include"; then
  echo "what is installed refers to the source folder"
  exit 1
fi

# A copy, so that nothing can come from the source folder.
cp -r "$source_folder/examples/cmake_project" "$scratch/project"
cmake -S "$scratch/project" -B "$scratch/build" -G Ninja -DCMAKE_BUILD_TYPE=Release \
  -DCMAKE_PREFIX_PATH="$scratch/prefix" > "$scratch/configure.log"
cmake --build "$scratch/build" > "$scratch/build.log" || { cat "$scratch/build.log"; exit 1; }
cd "$scratch"
token=$("$scratch/build/next_token" "$source_folder/demo/model" "An astronaut in an orange")
[[ $token =~ ^[0-9]+\ . ]] || { echo "next_token printed '$token'"; exit 1; }
if "$scratch/build/next_token" "$scratch/nowhere" "x" 2> "$scratch/error"; then
  echo "a missing checkpoint is no error"
  exit 1
fi
grep -q nowhere "$scratch/error"

"$scratch/prefix/bin/bezel" doctor > "$scratch/doctor.log" || { cat "$scratch/doctor.log"; exit 1; }
grep -c '^ok ' "$scratch/doctor.log" | grep -qx 7
grep -q 'Bezel computes right here' "$scratch/doctor.log"
cat "$scratch/doctor.log"
