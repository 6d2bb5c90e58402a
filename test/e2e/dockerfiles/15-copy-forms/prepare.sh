mkdir -p dir/sub/deeper other && echo 1 > one.txt && echo 2 > two.txt && echo 3 > a.conf && echo 4 > bx.conf && echo 5 > zz.conf
echo 6 > 'with space.txt' && echo 7 > 'other space.txt' && echo 8 > dir/sub/deeper/file && echo 9 > dir/x.conf && echo 10 > other/y.conf && echo h > .hidden && chmod 711 dir/sub && chmod 750 dir
