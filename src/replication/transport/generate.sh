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
