# Compiler and linker warn alike wherever coil's own code is compiled; how it is optimised depends on what it is for.
include(CoilPrecompile)

# coil_own_target(<target>): what all of coil's own code is compiled with.
function(coil_own_target target)
    target_compile_features(${target} PUBLIC cxx_std_20)
    set_target_properties(${target} PROPERTIES CXX_EXTENSIONS OFF)
    target_compile_options(${target} PRIVATE
        -Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion
        -Wnon-virtual-dtor -Wold-style-cast -Woverloaded-virtual
        # GCC's plain -Wshadow, unlike Clang's, objects to a constructor's parameter named like a member.
        $<IF:$<CXX_COMPILER_ID:GNU>,-Wshadow=local,-Wshadow>
        $<$<BOOL:${COIL_WERROR}>:-Werror>)
    if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
        # GCC bug 105651: std::string concatenation warns from inside libstdc++ at -O2.
        target_compile_options(${target} PRIVATE -Wno-restrict)
    endif()
endfunction()

# coil_own_program(<target> [PRECOMPILED <other>]): the same for a program that uses coil: a test, an example, a page's program.
# There are hundreds, so each preset says by COIL_PROGRAM_FLAGS how little the compiler may do for them; see CONTRIBUTING.md.
# With PRECOMPILED, the headers that were precompiled for the other target are this one's, too.
function(coil_own_program target)
    cmake_parse_arguments(PARSE_ARGV 1 program "" "PRECOMPILED" "")
    coil_own_target(${target})
    separate_arguments(flags UNIX_COMMAND "${COIL_PROGRAM_FLAGS}")
    target_compile_options(${target} PRIVATE ${flags})
    if(program_PRECOMPILED AND COIL_PRECOMPILE)
        target_precompile_headers(${target} REUSE_FROM ${program_PRECOMPILED})
    endif()
endfunction()
