"""Which OpenMoji drawings show what: the classes of the data set `safari`, species by species, written by hand.

A group is a species or a make: "dog" holds the dog, its face, the poodle and the guide dog. It lies in one split only.
Most groups of the test set have a relative in training: the leopard the tiger, the goose the swan. The code points are
in OpenMoji 16 and later, those from E000 to E2FF in OpenMoji alone. The scenery shows no member of any class.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from tlcourse.drawn_images import SPLITS

CLASSES = ("mammal", "bird", "sea", "bug", "plant", "food", "vehicle", "building")


class Drawing(NamedTuple):
    """One OpenMoji character, the group that it must stay with and its class."""

    character: str
    group: str
    category: str


# The training set, then the validation set after the first bar and the test set after the second.
_TABLES = {
    "mammal": """
        mouse 1F401 1F42D  hamster 1F439  squirrel 1F43F  rabbit 1F407 1F430  dog 1F415 1F436 1F429 1F9AE
        cat 1F408 1F431  tiger 1F405 1F42F  lion 1F981  bear 1F43B  koala 1F428  raccoon 1F99D  skunk 1F9A8
        otter 1F9A6  hedgehog 1F994  bat 1F987  cow 1F404 1F42E  ox 1F402  goat 1F410  pig 1F416 1F437
        horse 1F40E 1F434  camel 1F42A 1F42B  giraffe 1F992  deer 1F98C E003  elephant 1F418  hippopotamus 1F99B
        kangaroo 1F998  sloth 1F9A5  monkey 1F412 1F435  gorilla 1F98D
      | wolf 1F43A  zebra 1F993  bison 1F9AC  moose 1FACE  mammoth 1F9A3  beaver 1F9AB
      | rat 1F400  leopard 1F406  fox 1F98A  panda 1F43C  badger 1F9A1  buffalo 1F403  sheep 1F40F 1F411  boar 1F417
        donkey 1FACF  llama 1F999  rhinoceros 1F98F  orangutan 1F9A7
    """,
    "bird": """
        hen 1F413 1F414  dove 1F54A E009  eagle 1F985  owl 1F989  peacock 1F99A  parrot 1F99C E010  swan 1F9A2
        penguin 1F427  dodo 1F9A4
      | duck 1F986  chick 1F423 1F424 1F425
      | songbird 1F426  turkey 1F983  goose 1FABF  flamingo 1F9A9
    """,
    "sea": """
        whale 1F40B 1F433  orca E004  beluga E007  seal 1F9AD  fish 1F41F  angelfish 1F420  octopus 1F419
        jellyfish 1FABC  crab 1F980  shrimp 1F990  oyster 1F9AA  coral 1FAB8
      | narwhal E006  pufferfish 1F421  shell 1F41A
      | dolphin 1F42C E008  shark 1F988  goldfish E000  squid 1F991  lobster 1F99E
    """,
    "bug": """
        snail 1F40C  caterpillar 1F41B  worm 1FAB1  spider 1F577  scorpion 1F982  butterfly 1F98B  fly 1FAB0
        beetle 1FAB2
      | ladybird 1F41E  cricket 1F997
      | ant 1F41C  bee 1F41D  mosquito 1F99F  cockroach 1FAB3
    """,
    "plant": """
        seedling 1F331  tree 1F333  palm 1F334  cactus 1F335  tulip 1F337 1F490  blossom 1F33C  hibiscus 1F33A
        rice 1F33E  herb 1F33F  maple-leaf 1F341  fallen-leaves 1F342  bamboo 1F38B 1F38D  houseplant 1FAB4
        lotus 1FAB7  bare-tree 1FABE
      | leaf 1F343  hyacinth 1FABB  poppy E002
      | conifer 1F332 1F384  clover 1F340 2618  rose 1F339 1F940  sunflower 1F33B  cherry-blossom 1F338
    """,
    "food": """
        hot-dog 1F32D  burrito 1F32F  sandwich 1F96A  pizza 1F355  meat 1F356 1F357  fried-egg 1F373  salad 1F957
        chips 1F35F  rice-ball 1F359 1F358  skewer 1F361 1F362  bread 1F35E E0CA  croissant 1F950  pretzel 1F968 E0C3
        cheese 1F9C0  popcorn 1F37F  ice-cream 1F366  cookie 1F36A  chocolate 1F36B  custard 1F36E E0C7
        cake 1F370 1F382  maize 1F33D  aubergine 1F346  carrot 1F955  peas 1FADB  avocado 1F951  grapes 1F347
        watermelon 1F349  banana 1F34C  pineapple 1F34D  apple 1F34E 1F34F  cherries 1F352
      | sushi 1F363  pancakes 1F95E 1F9C7  sundae 1F367 1F368  tomato 1F345  lemon 1F34B  pepper 1FAD1 1F336
      | taco 1F32E  hamburger 1F354  noodles 1F35C 1F35D  steak 1F969  baguette 1F956  doughnut 1F369 1F96F
        cupcake 1F9C1  cucumber 1F952  orange 1F34A E0C0  pear 1F350  strawberry 1F353
    """,
    "vehicle": """
        car 1F697 1F698 1F693 1F694 1F695 1F696  pickup 1F6FB  van 1F690 1F69A  fire-engine 1F692  bus 1F68C 1F68D
        tractor 1F69C  rickshaw 1F6FA  motorcycle 1F3CD  bicycle 1F6B2  train 1F684 1F685 1F688  tramcar 1F683 1F68B
        steam-engine 1F682  cable-car 1F6A0 1F6A1  ship 1F6A2 1F6F3 26F4  canoe 1F6F6  rocket 1F680  helicopter 1F681
        flying-saucer 1F6F8  aeroplane 2708 1F6EB 1F6EC
      | ambulance 1F691  racing-car 1F3CE  kick-scooter 1F6F4  suspension-railway 1F69F  sailing-boat 26F5
      | lorry 1F69B  off-roader 1F699  trolleybus 1F68E  metro 1F686 1F68A  motor-scooter 1F6F5  speedboat 1F6A4 1F6E5
        space-shuttle E20B  propeller-plane 1F6E9
    """,
    "building": """
        house 1F3E0 1F3E1 1F3D8  office 1F3E2  post-office 1F3E3 1F3E4  love-hotel 1F3E9  bank 1F3E6 1F3DB E215
        school 1F3EB  shop 1F3EA  cafe E20C  factory 1F3ED E2CC  castle 1F3F0  pagoda 1F3EF  church 26EA 1F492
        synagogue 1F54D  hindu-temple 1F6D5  hut 1F6D6  stadium 1F3DF  steel-tower 1F5FC E205  lighthouse E212
        pyramids E20F  terraces E211  polar-station E2C3
      | hotel 1F3E8  keep E208  mausoleum E213  power-station E2D4
      | hospital 1F3E5  department-store 1F3EC  town-hall E209  mosque 1F54C  ruin 1F3DA  television-tower E20A
    """,
}

_SCENERY = """
    1F380 1F381 1F388 1F389 1F392 1F393 1F396 1F399 1F3A4 1F3A5 1F3A7 1F3A8 1F3A9 1F3AB 1F3AC 1F3AD 1F3AE 1F3AF
    1F3B1 1F3B2 1F3B5 1F3B7 1F3B8 1F3BA 1F3BB 1F3BE 1F3C0 1F3C5 1F3C6 1F3C8 1F3D0 1F3D3 1F3F7 1F3F9 1F3FA 1F451
    1F452 1F453 1F455 1F456 1F457 1F45E 1F460 1F462 1F48A 1F48D 1F48E 1F499 1F49A 1F49B 1F49C 1F4A1 1F4A3 1F4A7
    1F4AC 1F4BC 1F4BF 1F4CC 1F4CE 1F4D0 1F4D5 1F4DA 1F4E3 1F4E6 1F4EF 1F4F7 1F4FA 1F4FB 1F50B 1F50D 1F511 1F512
    1F514 1F516 1F525 1F526 1F527 1F528 1F529 1F52C 1F52D 1F52E 1F531 1F56F 1F576 1F579 1F58C 1F58D 1F5D1 1F5DD
    1F6CE 1F6D1 1F6D2 1F6DF 1F6E1 1F941 1F947 1F94A 1F97E 1F9E2 1F9E3 1F9E4 1F9E6 1F9E9 1F9EA 1F9ED 1F9F2 1F9F3
    1F9F5 1F9F6 1F9F9 1FA80 1FA81 1FA83 1FA91 1FA95 1FA97 1FA99 1FA9B 1FAA3 1FAA9 2600 2601 2602 260E 2693 2699
    26A0 26A1 26BD 26BE 2702 270F 2744 2B50 231B 23F0 1F308 1F319 1F31F
"""


def _parse(category: str, table: str) -> dict[str, tuple[Drawing, ...]]:
    """The drawings of one class, by split."""
    return {
        split: tuple(
            Drawing(chr(int(code, 16)), group, category)
            for group, codes in re.findall(r"([a-z-]+)((?: [0-9A-F]+)+)", groups)
            for code in codes.split()
        )
        for split, groups in zip(SPLITS, table.split("|"), strict=True)
    }


# DRAWINGS["bird"]["test"] are the birds of the test set; SCENERY["test"] is scattered over its backgrounds.
DRAWINGS = {name: _parse(name, _TABLES[name]) for name in CLASSES}
SCENERY = {split: tuple(chr(int(code, 16)) for code in _SCENERY.split()[i::3]) for i, split in enumerate(SPLITS)}
