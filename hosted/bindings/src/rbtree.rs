// SPDX-License-Identifier: GPL-2.0

//! Red-black trees.
//!
//! Real: what is where, and in which order. Not simulated: colours, and the balance, which decides
//! about nothing but time.

use std::ptr::null_mut;

use ffi::*;

#[repr(C)]
#[derive(Clone, Copy)]
pub struct rb_node {
    /// The parent; a node that is in no tree is its own.
    pub __rb_parent_color: c_ulong,
    pub rb_right: *mut rb_node,
    pub rb_left: *mut rb_node,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct rb_root {
    pub rb_node: *mut rb_node,
}

impl Default for rb_node {
    fn default() -> Self {
        Self {
            __rb_parent_color: 0,
            rb_right: null_mut(),
            rb_left: null_mut(),
        }
    }
}

impl Default for rb_root {
    fn default() -> Self {
        Self {
            rb_node: null_mut(),
        }
    }
}

unsafe fn parent(node: *const rb_node) -> *mut rb_node {
    std::ptr::with_exposed_provenance_mut(unsafe { (*node).__rb_parent_color })
}

unsafe fn set_parent(node: *mut rb_node, parent: *mut rb_node) {
    if !node.is_null() {
        unsafe { (*node).__rb_parent_color = parent.expose_provenance() };
    }
}

unsafe fn leftmost(mut node: *mut rb_node) -> *mut rb_node {
    while !node.is_null() && unsafe { !(*node).rb_left.is_null() } {
        node = unsafe { (*node).rb_left };
    }
    node
}

unsafe fn rightmost(mut node: *mut rb_node) -> *mut rb_node {
    while !node.is_null() && unsafe { !(*node).rb_right.is_null() } {
        node = unsafe { (*node).rb_right };
    }
    node
}

/// The first node of the subtree in the order in which children come before parents.
unsafe fn deepest(mut node: *mut rb_node) -> *mut rb_node {
    while !node.is_null() {
        let (left, right) = unsafe { ((*node).rb_left, (*node).rb_right) };
        node = match (left.is_null(), right.is_null()) {
            (false, _) => left,
            (true, false) => right,
            (true, true) => return node,
        };
    }
    node
}

/// Puts `new` where `old` hangs.
unsafe fn transplant(old: *mut rb_node, new: *mut rb_node, root: *mut rb_root) {
    let above = unsafe { parent(old) };
    unsafe {
        if above.is_null() {
            (*root).rb_node = new;
        } else if (*above).rb_left == old {
            (*above).rb_left = new;
        } else {
            (*above).rb_right = new;
        }
        set_parent(new, above);
    }
}

pub unsafe extern "C" fn rb_link_node(
    node: *mut rb_node,
    parent: *mut rb_node,
    rb_link: *mut *mut rb_node,
) {
    unsafe {
        node.write(rb_node::default());
        set_parent(node, parent);
        *rb_link = node;
    }
}

pub unsafe extern "C" fn rb_insert_color(_node: *mut rb_node, _root: *mut rb_root) {}

pub unsafe extern "C" fn rb_erase(node: *mut rb_node, root: *mut rb_root) {
    unsafe {
        let (left, right) = ((*node).rb_left, (*node).rb_right);
        if left.is_null() {
            transplant(node, right, root);
        } else if right.is_null() {
            transplant(node, left, root);
        } else {
            let next = leftmost(right);
            if next != right {
                transplant(next, (*next).rb_right, root);
                (*next).rb_right = right;
                set_parent(right, next);
            }
            transplant(node, next, root);
            (*next).rb_left = left;
            set_parent(left, next);
        }
    }
}

pub unsafe extern "C" fn rb_replace_node(
    victim: *mut rb_node,
    new: *mut rb_node,
    root: *mut rb_root,
) {
    unsafe {
        new.write(*victim);
        transplant(victim, new, root);
        set_parent((*new).rb_left, new);
        set_parent((*new).rb_right, new);
    }
}

pub unsafe extern "C" fn rb_first(root: *const rb_root) -> *mut rb_node {
    unsafe { leftmost((*root).rb_node) }
}

pub unsafe extern "C" fn rb_last(root: *const rb_root) -> *mut rb_node {
    unsafe { rightmost((*root).rb_node) }
}

pub unsafe extern "C" fn rb_next(node: *const rb_node) -> *mut rb_node {
    unsafe {
        if !(*node).rb_right.is_null() {
            return leftmost((*node).rb_right);
        }
        let (mut node, mut above) = (node, parent(node));
        while !above.is_null() && (*above).rb_right.cast_const() == node {
            node = above;
            above = parent(node);
        }
        above
    }
}

pub unsafe extern "C" fn rb_prev(node: *const rb_node) -> *mut rb_node {
    unsafe {
        if !(*node).rb_left.is_null() {
            return rightmost((*node).rb_left);
        }
        let (mut node, mut above) = (node, parent(node));
        while !above.is_null() && (*above).rb_left.cast_const() == node {
            node = above;
            above = parent(node);
        }
        above
    }
}

pub unsafe extern "C" fn rb_first_postorder(root: *const rb_root) -> *mut rb_node {
    unsafe { deepest((*root).rb_node) }
}

pub unsafe extern "C" fn rb_next_postorder(node: *const rb_node) -> *mut rb_node {
    if node.is_null() {
        return null_mut();
    }
    unsafe {
        let above = parent(node);
        if !above.is_null() && (*above).rb_left.cast_const() == node && !(*above).rb_right.is_null()
        {
            return deepest((*above).rb_right);
        }
        above
    }
}
