#!/bin/sh
# What run.sh does with the programs that are linked with the shared library: valgrind sees what they allocate.
set -eu

# What is "possibly lost" is what Rust's standard library keeps for the main thread.
kinds=definite,indirect
grind="valgrind --quiet --leak-check=full --show-leak-kinds=$kinds --errors-for-leak-kinds=$kinds --error-exitcode=9"
$grind ./build ../tree grind:v1 >log 2>&1
$grind ./list grind:v1 dir >log
$grind ./tree grind:v1 ../tree
$grind ./progress ../tree grind grind-extracted

mkdir loaded
./loads libpuzzlefs.so.0 ../tree grind loaded
# Not under sanitizers: their allocators do not live through a fork of a process with threads.
./forks ../tree grind loaded
