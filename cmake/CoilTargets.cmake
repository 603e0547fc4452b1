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
