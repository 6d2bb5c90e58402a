mkdir -p root/bin root/etc root/tmp root/proc root/sys root/dev && cp /bin/busybox root/bin/ && for applet in sh cat echo ls; do ln root/bin/busybox root/bin/$applet; done
chmod 1777 root/tmp && echo 'root:x:0:0::/:/bin/sh' > root/etc/passwd
find root -exec touch -h -d 2020-02-02 {} + && tar cJf root.tar.xz -C root . && rm -r root
