# ccache, lld and the sanitizers. As a subproject, coil leaves the choice of tools to its parent.

if(PROJECT_IS_TOP_LEVEL)
    find_program(COIL_CCACHE ccache)
    if(COIL_CCACHE AND NOT DEFINED CMAKE_CXX_COMPILER_LAUNCHER)
        set(CMAKE_CXX_COMPILER_LAUNCHER "${CMAKE_CURRENT_LIST_DIR}/compiler_launcher.sh")
    endif()

    if(CMAKE_CXX_COMPILER_ID MATCHES "Clang")
        include(CheckLinkerFlag)
        check_linker_flag(CXX -fuse-ld=lld COIL_HAVE_LLD)
        if(COIL_HAVE_LLD)
            add_link_options($<$<LINK_LANGUAGE:CXX>:-fuse-ld=lld>)
        endif()
    endif()
endif()

if(COIL_SANITIZE)
    add_compile_options("-fsanitize=${COIL_SANITIZE}" -fno-sanitize-recover=all -fno-omit-frame-pointer)
    if(COIL_SANITIZE MATCHES "undefined")
        # It probes memory through a pipe, and takes an object for an invalid one when no descriptor is left: tests do that.
        add_compile_options(-fno-sanitize=vptr)
    endif()
    add_link_options("-fsanitize=${COIL_SANITIZE}")
endif()
