# SPDX-License-Identifier: Apache-2.0
# Unit tests (cmocka), command line triples, fuzz corpora, the header alone, and an installed copy.
pkg_check_modules(CMOCKA REQUIRED IMPORTED_TARGET cmocka)

set(TEST_ENVIRONMENT
    "SOOTHE=$<TARGET_FILE:soothe_cli>" "SOOTHE_DATA=${CMAKE_SOURCE_DIR}/tests/data"
    "SOOTHE_SOURCE=${CMAKE_SOURCE_DIR}" "MAKE_TINY=$<TARGET_FILE:make_tiny>"
    "SOOTHE_MODELS=${CMAKE_SOURCE_DIR}/models"
    "OMP_WAIT_POLICY=passive" "LSAN_OPTIONS=suppressions=${CMAKE_SOURCE_DIR}/tests/leaks.supp")

# Tiny models for the command line triples and the fuzz corpora.
add_executable(make_tiny tests/make_tiny.c tests/tiny_model.c)
target_link_libraries(make_tiny PRIVATE soothe_objects soothe_flags)
set_target_properties(make_tiny PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)

function(soothe_test_environment name)
  set_tests_properties(${name} PROPERTIES ENVIRONMENT "${TEST_ENVIRONMENT}" TIMEOUT 900)
endfunction()

file(GLOB TESTS CONFIGURE_DEPENDS tests/test_*.c)
foreach(source ${TESTS})
  get_filename_component(name ${source} NAME_WE)
  add_executable(${name} ${source} tests/tiny_model.c)
  target_include_directories(${name} PRIVATE tests)
  target_link_libraries(${name} PRIVATE soothe_objects soothe_flags PkgConfig::CMOCKA)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  add_test(NAME ${name} COMMAND ${name} WORKING_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  soothe_test_environment(${name})
endforeach()

file(GLOB TRIPLES CONFIGURE_DEPENDS tests/cli/*.sh)
foreach(script ${TRIPLES})
  get_filename_component(name ${script} NAME_WE)
  add_test(NAME cli_${name} COMMAND ${CMAKE_SOURCE_DIR}/scripts/run_cli_test.sh ${script}
           WORKING_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  soothe_test_environment(cli_${name})
endforeach()

# Each fuzz target replays its corpus in every build; with SOOTHE_FUZZ it is a libFuzzer binary.
file(GLOB FUZZERS CONFIGURE_DEPENDS fuzz/fuzz_*.c)
foreach(source ${FUZZERS})
  get_filename_component(name ${source} NAME_WE)
  string(REPLACE "fuzz_" "" topic ${name})
  if(SOOTHE_FUZZ)
    add_executable(${name} ${source} fuzz/input_file.c tests/tiny_model.c)
    target_link_options(${name} PRIVATE -fsanitize=fuzzer)
  else()
    add_executable(${name} ${source} fuzz/input_file.c tests/tiny_model.c fuzz/replay.c)
  endif()
  target_include_directories(${name} PRIVATE tests)
  target_link_libraries(${name} PRIVATE soothe_objects soothe_flags)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/fuzz)
  if(NOT SOOTHE_FUZZ)
    add_test(NAME ${name} COMMAND ${name} ${CMAKE_SOURCE_DIR}/fuzz/corpus/${topic}
             WORKING_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
    soothe_test_environment(${name})
  endif()
endforeach()

# The public header compiles alone, as C and as C++.
file(WRITE ${CMAKE_BINARY_DIR}/header_alone.c "#include \"soothe.h\"\nint soothe_header_c(void);\nint soothe_header_c(void) { return SOOTHE_OK; }\n")
file(WRITE ${CMAKE_BINARY_DIR}/header_alone.cpp "#include \"soothe.h\"\nint soothe_header_cpp();\nint soothe_header_cpp() { return SOOTHE_OK; }\n")
add_library(header_alone OBJECT ${CMAKE_BINARY_DIR}/header_alone.c ${CMAKE_BINARY_DIR}/header_alone.cpp)
target_include_directories(header_alone PRIVATE include $<TARGET_PROPERTY:llama,INTERFACE_INCLUDE_DIRECTORIES>)

add_test(NAME installed_copy COMMAND ${CMAKE_SOURCE_DIR}/scripts/test_install.sh ${CMAKE_BINARY_DIR}
         WORKING_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
soothe_test_environment(installed_copy)
if(SOOTHE_SANITIZE OR SOOTHE_FUZZ)
  set_tests_properties(installed_copy PROPERTIES DISABLED TRUE) # a sanitised library cannot be linked by others
endif()
