#!/bin/sh
# Makes generated/peer.ts of peer.proto. Needs protoc (Debian: protobuf-compiler); its output is committed, so that
# nobody else does.
set -eu
cd "$(dirname "$0")"
mkdir -p generated
npx --yes --package=ts-proto@2.18.0 -- sh -c '
  protoc --proto_path=. --plugin=protoc-gen-ts_proto="$(command -v protoc-gen-ts_proto)" --ts_proto_out=generated \
    --ts_proto_opt=env=browser,forceLong=number,oneof=unions-value,importSuffix=.js,outputJsonMethods=false \
    --ts_proto_opt=outputPartialMethods=false,outputServices=generic-definitions,enumsAsLiterals=true \
    --ts_proto_opt=useReadonlyTypes=true,snakeToCamel=true,outputClientImpl=false,unrecognizedEnum=false \
    peer.proto'

# ts-proto has no option that spares these: it decodes into read-only types, and counts depth on the reader, through
# `any`. Named types instead, so that the compiler checks what is generated, too.
output=generated/peer.ts
sed -i \
  -e '/^\/\* eslint-disable \*\/$/d' \
  -e 's/(reader as any)\.__tsProtoDecodeDepth/(reader as DepthCounting).__tsProtoDecodeDepth/' \
  -e 's/createBase\([A-Za-z]*\)() as any;/createBase\1() as BeingDecoded<\1>;/' \
  -e 's/message\.\([A-Za-z]*\) = reader\.int32() as any;/message.\1 = reader.int32() as typeof message.\1;/' \
  "$output"
cat >>"$output" <<'END'

type BeingDecoded<T> = { -readonly [K in keyof T]: T[K] extends readonly (infer E)[] ? E[] : T[K] };

type DepthCounting = BinaryReader & { __tsProtoDecodeDepth?: number };
END
if grep -nw any "$output" | grep -v '^[0-9]*: *\(/\?\*\|//\)'; then
  echo 'generate.sh: the output holds `any`' >&2
  exit 1
fi
