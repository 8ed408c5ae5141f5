# A C compiler for a macOS target: zig's, which brings Apple's C headers. Called as
#   sh cc.sh PYTHON TARGET [what a C compiler is told]...
# Zig names targets in its own way and finds the headers itself, so that what names either is left
# out. There is no compiler for Objective-C without Apple's SDK: such a file becomes an empty
# object, which is enough for a check of types, and no program is ever linked with it.
python=$1
target=$2
shift 2
skip=
for word; do
    shift
    if [ -n "$skip" ]; then
        skip=
        continue
    fi
    case $word in
        --target=* | -mmacosx-version-min=* | -mmacos-version-min=*) ;;
        -arch | -isysroot | -target) skip=1 ;;
        *.m) set -- "$@" -x c /dev/null ;;
        *) set -- "$@" "$word" ;;
    esac
done
exec "$python" -m ziglang cc -target "$target" "$@"
