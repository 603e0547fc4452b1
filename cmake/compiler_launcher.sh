#!/bin/sh
# Starts a compilation through ccache, so that precompiled headers, too, need no settings of the user's.
#
# A precompiled header has paths and times in it, and would make every object that uses it another one in each checkout. So
# ccache is told to look at a checksum beside it (.sum) instead, which is made here from the text of all headers that went in.
export CCACHE_PCH_EXTSUM=1
export CCACHE_DEPEND=1  # without a run of the preprocessor: the compiler says what it has read
export CCACHE_SLOPPINESS="pch_defines,time_macros${CCACHE_SLOPPINESS:+,$CCACHE_SLOPPINESS}"

# ccache makes paths below CCACHE_BASEDIR relative, but does not look behind -Xclang, where CMake has the precompiled header.
if [ -n "$CCACHE_BASEDIR" ]; then
    up=$(realpath --relative-to="$PWD" "$CCACHE_BASEDIR")
    for argument; do
        shift
        case $argument in
            "$CCACHE_BASEDIR"/*) argument=$up${argument#"$CCACHE_BASEDIR"} ;;
        esac
        set -- "$@" "$argument"
    done
fi

case " $* " in
    *" c++-header "* | *" -emit-pch "*) ;;
    *) exec ccache "$@" ;;
esac

"$@" || exit
for argument; do
    case $before in
        -o) output=$argument ;;
        -MF) headers=$argument ;;
    esac
    before=$argument
done
# The list is a makefile's rule. CMake's header, which only includes the others, has paths in it.
sed -e 's/^[^:]*: *//' -e 's/\\$//' "$headers" | tr -s ' ' '\n' | grep -v -e '^$' -e '/cmake_pch\.' |
    xargs cat | sha256sum > "$output.sum"
