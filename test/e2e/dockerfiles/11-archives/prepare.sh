mkdir -p tree/dir/sub && echo one > tree/one && echo two > tree/dir/two && ln -s dir/two tree/link && ln tree/one tree/hard && chmod 750 tree/dir && chmod 4755 tree/one
chown 1000:50 tree/dir/two
find tree -exec touch -h -d 2020-02-02 {} +
tar cf plain.tar --numeric-owner -C tree . && tar czf packed.tar.gz -C tree dir link && tar cJf packed.tar.xz -C tree one && tar cjf packed.tar.bz2 -C tree dir/two
echo 'not an archive' > false.tar.gz
cp plain.tar plain.tar.copy
echo text > file.txt
mkdir -p over/dir && echo changed > over/one && echo three > over/dir/three && chmod 700 over/dir && tar cf overlay.tar -C over .
rm -r tree over
